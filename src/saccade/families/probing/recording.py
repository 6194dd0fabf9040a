"""Every attention call of one forward, kept: the host's own code runs, reached as `attach` reaches it.

All is put back after each forward.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from saccade.core.errors import SaccadeError
from saccade.families.plain import attending, by_processor, routes
from saccade.seam.shadow import Undo, carry, interceptor_of, rebind_methods, rebind_processor, shadow_of


@dataclass(frozen=True, eq=False)
class Seen:
    """One call: the function, a number for every query and every value, which differs from token to token, the mask."""

    function: str
    queries: Tensor  # (b n)
    values: Tensor  # (b m)
    mask: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Queries and keys."""
        return self.queries.shape[1], self.values.shape[1]


@dataclass(eq=False)
class Recorder:
    """Stands where an interceptor stands. A silent one answers zeros, so that no token learns of another."""

    silent: bool
    active: bool = True
    seen: bool = False
    calls: list[Seen] = field(default_factory=list)

    def dispatch(self, original: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """A call of diffusers' dispatcher: tensors (b n h d)."""
        return self._see(original, "dispatch_attention_fn", 1, args, kwargs)

    def sdpa(self, original: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """A call of `F.scaled_dot_product_attention`: tensors (b h n d)."""
        return self._see(original, "scaled_dot_product_attention", 2, args, kwargs)

    def _see(self, original: Any, name: str, axis: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        query, _, value, *rest = args
        mask = rest[0] if rest else kwargs.get("attn_mask")
        self.calls.append(Seen(name, _prints(query, axis), _prints(value, axis), mask))
        if self.silent:
            return query.new_zeros(*query.shape[:-1], value.shape[-1])
        return original(*args, **kwargs)


Doors = Mapping[str, Callable[..., Undo]]  # by the attention module's name, how it is reached


def doors(model: nn.Module) -> Doors:
    """Every module that calls attention, and whether by its processor or its own code.

    Raises SaccadeError for a model that is attached.
    """
    names = list(attending(model))
    for name in names:
        if (other := interceptor_of(model.get_submodule(name))) is not None:
            raise SaccadeError(f"site '{name}' is attached by {other.owner}; detach that run, then probe")
    return {n: rebind_processor if by_processor(model.get_submodule(n)) else rebind_methods for n in names}


def recorded(
    model: nn.Module, reached: Doors, inputs: Mapping[str, Any], *, silent: bool = False
) -> dict[str, list[Seen]]:
    """The calls of one forward by the attention module's name; modules that did not run have none."""
    shadow = shadow_of(routes())
    undos, recorders = [shadow.hold()], {name: Recorder(silent) for name in reached}
    try:
        for name, rebind in reached.items():
            undos.append(carry(model.get_submodule(name), recorders[name]))
            undos.append(rebind(model.get_submodule(name), shadow))
        with torch.no_grad():
            model(**inputs)
    finally:
        while undos:
            undos.pop()()
    return {name: recorder.calls for name, recorder in recorders.items()}


def _prints(x: Tensor, axis: int) -> Tensor:
    """(b n) a number for each token, of heads and channels."""
    tokens = x.detach().transpose(1, axis).flatten(2).double()
    return tokens @ torch.arange(1, tokens.shape[-1] + 1, device=x.device).double().cos()
