"""Whether a grid is the one tokens stand on: a change of one place of the image must reach the token of that place."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from saccade.core.layout import Grid
from saccade.families.probing.grids import Sides, size
from saccade.families.probing.perturbing import Forward, replaced
from saccade.families.probing.reading import Run
from saccade.families.probing.terms import Scope


def fits(forward: Forward, scope: Scope, run: Run, sides: Sides, site: str, start: int) -> bool:
    """Whether a run behind `start` of a site's queries stands on this grid; True too where changes reach it whole."""
    t, h, w = size(sides)
    places: set[Grid] = {(0, h - 1, 0), (t - 1, 0, w - 1)}
    return all(_lands(forward, scope, run, sides, site, start, place) for place in places)


def _lands(forward: Forward, scope: Scope, run: Run, sides: Sides, site: str, start: int, place: Grid) -> bool:
    assert run.path is not None
    (_, h, w), (t, y, x) = size(sides), place
    value = _struck(scope.given(run.path), _index(sides, place))
    reached = forward.reach(replaced(forward.inputs, run.path, value))[site][0][start : start + run.n]
    return bool(reached.all()) or reached.nonzero()[:, 0].tolist() == [(t * h + y) * w + x]


def _index(sides: Sides, place: Grid) -> dict[int, int]:
    """Along which axis of the argument which entry belongs to a place."""
    pairs = zip(sides, place, strict=True)
    return {side.axis: at * (side.whole // side.value) for side, at in pairs if side.axis is not None}


def _struck(value: Any, index: dict[int, int]) -> Any:
    if not isinstance(value, Tensor):
        return [_struck(tree_leaves(value)[0], index), *value[1:]]
    where: list[Any] = [slice(None)] * value.ndim
    for axis, at in index.items():
        where[axis] = at
    out, there = value.clone(), value[tuple(where)]
    noise = 1 + torch.randn(there.shape, generator=torch.Generator().manual_seed(1)).to(there.device)
    other = there + noise if value.is_floating_point() else (there == value.amin()) * value.amax()
    out[tuple(where)] = other.to(value.dtype)
    return out
