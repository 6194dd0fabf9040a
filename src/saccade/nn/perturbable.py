"""A classifier's forward that can be repeated with something added to what it read: attention scores, or embeddings.

Passes of one batch share their dropout masks, or a gradient between them would be noise, and batch statistics are
updated by the first alone.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Generic, ParamSpec

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

P = ParamSpec("P")
CLOSE = 1e-4  # to 1, of a row's sum that is taken for a softmax


@dataclass(frozen=True, eq=False, kw_only=True)
class Perturbable:
    """One batch as a classifier read it.

    values  what may be added to: scores before softmax and mask (b *r t), or embeddings (b t e); no gradient
    keep    which of them are there
    clean   the logits as they are, (b), (b 1) or (b c)
    run     the logits with `r` of the shape of `values` added, as often as wanted
    words   the table of embeddings that `values` come from, None for scores

    Raises ValueError for a mask that does not fit, or leaves nothing of a row.
    """

    values: Float[Tensor, "b ..."]
    keep: Bool[Tensor, "b ..."]
    clean: Float[Tensor, " b"] | Float[Tensor, "b c"]
    run: Callable[[Tensor], Tensor]
    words: Float[Tensor, "w e"] | None = None

    def __post_init__(self) -> None:
        check_keep(self.keep, self.values)

    def check_scores(self) -> None:
        """Warn where the scores look as if a softmax had been taken of them."""
        real = self.values.masked_fill(~self.keep, 0)
        sums, several = real.sum(-1), self.keep.sum(-1) > 1
        if several.any() and bool((real >= 0).all()) and bool(((sums - 1).abs() < CLOSE)[several].all()):
            warnings.warn(
                "values sum to 1 in every row, as after a softmax; give the scores before it", UserWarning, stacklevel=2
            )


def check_keep(keep: Tensor, values: Tensor) -> None:
    """Raise ValueError for a mask of another shape than the values', or one that leaves nothing of a row."""
    if keep.shape != values.shape:
        raise ValueError(
            f"keep {tuple(keep.shape)} does not fit values {tuple(values.shape)}; give a mask of that shape"
        )
    empty = ~keep.flatten(1).any(1)
    if bool(empty.any()):
        row = int(empty.nonzero()[0])
        raise ValueError(f"keep masks all of row {row}; leave rows without a token out of the batch")


@dataclass(eq=False)
class SamePasses(Generic[P]):
    """A function of a model that draws the same random numbers in every call, and updates statistics in the first.

    run      what is called
    modules  whose dropout and batch statistics take part
    share    False: every call draws anew
    """

    run: Callable[P, Tensor]
    modules: Iterable[nn.Module] = ()
    share: bool = True
    state: tuple[Tensor, dict[int, Tensor]] | None = field(default=None, init=False)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        if self.state is None:
            self.state = _random_state(self.modules)
            return self.run(*args, **kwargs)
        with ExitStack() as stack:
            for module in self.modules:
                stack.enter_context(frozen_statistics(module))
            if self.share:
                stack.enter_context(_replayed(*self.state))
            return self.run(*args, **kwargs)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norms go on normalising by their batch in training, and do not count it."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _random_state(modules: Iterable[nn.Module]) -> tuple[Tensor, dict[int, Tensor]]:
    devices = {p.device.index or 0 for module in modules for p in module.parameters() if p.device.type == "cuda"}
    return torch.get_rng_state(), {device: torch.cuda.get_rng_state(device) for device in devices}


@contextmanager
def _replayed(state: Tensor, by_device: dict[int, Tensor]) -> Iterator[None]:
    with torch.random.fork_rng(devices=list(by_device)):
        torch.set_rng_state(state)
        for device, own in by_device.items():
            torch.cuda.set_rng_state(own, device)
        yield
