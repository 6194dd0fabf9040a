"""Which tokens each argument of a forward reaches, found by changing one argument at a time.

Attention is silent meanwhile, so what changes at a site is what the argument itself put there. Where a change reaches
all tokens, as by a pooled text, the argument's tokens are moved by one instead: what is pooled stays as it is.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from saccade.families.probing.recording import Doors, Seen, doors, recorded

Path = tuple[str, ...]  # of an argument, through dictionaries
Reach = dict[str, tuple[Tensor, Tensor]]  # by site: which queries (n), which keys (m)
CLOSE = 1e-6  # relative; the rest is rounding


@dataclass(frozen=True, eq=False)
class Forward:
    """A model and the arguments of a forward, with what its sites see while attention is silent."""

    model: nn.Module
    doors: Doors
    inputs: Mapping[str, Any]
    before: dict[str, list[Seen]]

    @classmethod
    def of(cls, model: nn.Module, inputs: Mapping[str, Any]) -> "Forward":
        """Runs it once."""
        return cls(model, reached := doors(model), inputs, recorded(model, reached, inputs, silent=True))

    def reach(self, changed: Mapping[str, Any]) -> Reach:
        """Which tokens are others when these arguments are given instead."""
        after = recorded(self.model, self.doors, changed, silent=True)
        pairs = {name: (largest(a), largest(b)) for name, a in self.before.items() if a and (b := after.get(name))}
        return {
            name: (_differ(a.queries, b.queries), _differ(a.values, b.values))
            for name, (a, b) in pairs.items()
            if a.size == b.size
        }


def largest(calls: list[Seen]) -> Seen:
    """The call over the most tokens, of a module that calls attention more than once."""
    return max(calls, key=lambda call: call.size)


def reaches(forward: Forward) -> dict[Path, Reach]:
    """What every argument that brings tokens reaches; later ones that reach no value, as places, are left out."""
    found = {path: _reach(forward, path, value) for path, value in arguments(forward.inputs)}
    first = next(iter(found), None)  # an image that only reads words reaches no value either
    return {p: r for p, r in found.items() if any(v.any() or (p == first and q.any()) for q, v in r.values())}


def arguments(inputs: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Arguments that may bring tokens: tensors, or lists of them with one for each row."""
    for name, value in inputs.items():
        if isinstance(value, Mapping):
            yield from arguments(value, (*path, name))
        elif any(_brings(x, isinstance(value, Tensor)) for x in tree_leaves(value)):
            yield (*path, name), value


def replaced(inputs: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The same arguments but for one."""
    name, *rest = path
    return {**inputs, name: replaced(inputs[name], tuple(rest), value) if rest else value}


def _brings(x: Any, alone: bool) -> bool:
    if not isinstance(x, Tensor) or x.dtype == torch.bool or x.is_complex():
        return False
    return x.ndim > (2 if alone else 1) if x.is_floating_point() else x.ndim > 1 and bool(x.amax() > 1)


def _reach(forward: Forward, path: Path, value: Any) -> Reach:
    """By noise; of sites where that reaches every token, and of ids of words, by moving the tokens."""
    generator = torch.Generator().manual_seed(0)
    noisy: Reach = {}
    if not any(_whole(x) for x in tree_leaves(value)):
        noisy = _try(forward, replaced(forward.inputs, path, tree_map(lambda x: _noisy(x, generator), value)))
    moved = _try(forward, _moved_along(forward.inputs, path, value))
    return {name: _narrower(noisy.get(name), moved.get(name)) for name in {**noisy, **moved}}


def _try(forward: Forward, inputs: Mapping[str, Any]) -> Reach:
    try:
        return forward.reach(inputs)
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError):  # the host takes no such values
        return {}


def _narrower(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """The first, or where that is everything the second; either may be missing."""
    if a is None or b is None:
        return b if a is None else a  # type: ignore[return-value]
    return tuple(_filled(y) if x.all() else x for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _filled(x: Tensor) -> Tensor:
    """One run from the first to the last: equal neighbours that changed places changed nothing."""
    places = x.nonzero()[:, 0]
    out = torch.zeros_like(x)
    if len(places):
        out[places[0] : places[-1] + 1] = True
    return out


def _whole(x: Any) -> bool:
    return isinstance(x, Tensor) and not x.is_floating_point()


def _noisy(x: Any, generator: torch.Generator) -> Any:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return x
    return x + torch.randn(x.shape, generator=generator).to(x) * (1 + x.abs().mean())


def _moved_along(inputs: Mapping[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """The argument's tokens moved by one, and those of its masks."""
    out = replaced(inputs, path, tree_map(_moved, value))
    if isinstance(value, Tensor) and len(path) == 1:
        alike = {
            k: v for k, v in inputs.items() if isinstance(v, Tensor) and v.shape == value.shape[:2] and k != path[0]
        }
        out |= {name: mask.roll(1, 1) for name, mask in alike.items()}
    return out


def _moved(x: Any) -> Any:
    if not isinstance(x, Tensor) or x.ndim < 2:
        return x
    return x.roll(1, {2: 0 if x.is_floating_point() else 1, 3: 1}.get(x.ndim, x.ndim - 1))


def _differ(a: Tensor, b: Tensor) -> Tensor:
    if a.shape != b.shape:
        return torch.ones(a.shape[1], dtype=torch.bool)
    return ((a - b).abs() > CLOSE * (1 + a.abs())).any(0).cpu()
