"""Sets folded into the weights of a model, for inference without terms beside them, and taken out again exactly.

    W <- W + sum over the sets n of (alpha / r) B_n A_n

Sums are made in float32 at least and rounded once. The weights as they were are kept, so what comes back is them, bit
for bit, in any precision; subtracting what was added would drift.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from saccade.papers.dreamrelation.named_set import NamedSet

_MERGED = "_saccade_merged"  # on a linear whose weight holds terms


class Merged:
    """The weights that hold terms, and what they were; `undo` puts it back."""

    def __init__(self, before: list[tuple[Any, Tensor]]) -> None:
        self._before = before

    def undo(self) -> None:
        """Put the weights back, bit for bit; a second time changes nothing."""
        while self._before:
            linear, weight = self._before.pop()
            _put(linear, weight)
            delattr(linear, _MERGED)


def merge_(model: nn.Module, sets: Iterable[NamedSet]) -> Merged:
    """Add the terms of sets to the weights, in place; attach none of them meanwhile, or they count twice.

    Costs the memory of the weights that change. Raises ValueError for a model that lacks a projection or has it in
    another size, for weights that are no floats, and for what is merged already; nothing has changed then.
    """
    before: list[tuple[Any, Tensor]] = []
    for linear, change in _changes(model, sets).values():
        weight = linear.weight.detach()
        before.append((linear, weight.clone()))
        fine = torch.promote_types(weight.dtype, torch.float32)
        _put(linear, (weight.to(fine) + change.to(weight.device, fine)).to(weight.dtype))
        setattr(linear, _MERGED, True)
    return Merged(before)


@torch.no_grad()
def _changes(model: nn.Module, sets: Iterable[NamedSet]) -> dict[str, tuple[Any, Tensor]]:
    """By projection, the linear and what is added to its weight: all sets' terms, summed."""
    inside, found = dict(model.named_modules()), dict[str, tuple[Any, Tensor]]()
    for each in sets:
        for site, path in each.low.names:
            name, (down, up) = f"{site}.{path}", each.low.at((site, path))
            linear = inside.get(name)
            _check(name, linear, (up.shape[0], down.shape[1]))
            change = each.scale * (up.float() @ down.float())
            found[name] = linear, change + found[name][1] if name in found else change
    return found


def _check(name: str, linear: Any, shape: tuple[int, int]) -> None:
    weight = getattr(linear, "weight", None)
    if weight is None or tuple(weight.shape) != shape:
        there = "has no such projection" if weight is None else f"has {tuple(weight.shape)} there"
        raise ValueError(f"terms of {shape} for '{name}' do not fit the model, which {there}; give the one of training")
    if not weight.is_floating_point():
        raise ValueError(f"the weight of '{name}' is {weight.dtype}; merge before it is quantised, or attach instead")
    if hasattr(linear, _MERGED):
        raise ValueError(f"'{name}' is merged already; undo that first, or terms would count twice")


@torch.no_grad()
def _put(linear: Any, weight: Tensor) -> None:
    linear.weight.copy_(weight)
