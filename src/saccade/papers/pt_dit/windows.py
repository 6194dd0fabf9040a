"""Windows on n-d grids: tokens regrouped and put back exactly, also shifted by half a window.

A shifted grid is rolled, so its last windows hold tokens from opposite borders; `shift_mask` keeps those apart.

Source: Liu et al., Swin Transformer (2021).
"""

from math import prod

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

Sizes = tuple[int, ...]
AXES = {2: ("height", "width"), 3: ("frames", "height", "width")}


def partition(
    x: Shaped[Tensor, "b n d"], grid: Sizes, window: Sizes, *, shift: bool = False
) -> Shaped[Tensor, "b windows p d"]:
    """Tokens by window: windows row-major, and the tokens of each; `shift`: the grid rolled back by half a window."""
    counts = windows_of(grid, window)
    if shift:
        x = _rolled(x, grid, tuple(-half for half in halves(window)))
    pairs = [size for pair in zip(counts, window, strict=True) for size in pair]
    cells = x.unflatten(1, pairs).permute(_by_window(len(grid)))
    return cells.reshape(len(x), prod(counts), prod(window), x.shape[-1])


def merge(
    x: Shaped[Tensor, "b windows p d"], grid: Sizes, window: Sizes, *, shift: bool = False
) -> Shaped[Tensor, "b n d"]:
    """The inverse of `partition`."""
    order = _by_window(len(grid))
    cells = x.flatten(1, 2).unflatten(1, (*windows_of(grid, window), *window))
    tokens = cells.permute([order.index(axis) for axis in range(len(order))]).flatten(1, -2)
    return _rolled(tokens, grid, halves(window)) if shift else tokens


def shift_labels(grid: Sizes, window: Sizes) -> Int[Tensor, "windows p"]:
    """What may meet in a shifted window: tokens of one label.

    On each axis that is cut, places of the rolled grid are 0 before the last window, 1 in its first half, 2 after that.
    """
    label = torch.zeros(grid, dtype=torch.long)
    for axis, (size, side, half) in enumerate(zip(grid, window, halves(window), strict=True)):
        at = torch.arange(size)
        cut = (at >= size - side).long() + (at >= size - half) if half else torch.zeros_like(at)
        label = 3 * label + cut.reshape([-1 if each == axis else 1 for each in range(len(grid))])
    return partition(label.flatten()[None, :, None], grid, window)[0, ..., 0]


def shift_mask(grid: Sizes, window: Sizes) -> Bool[Tensor, "windows p p"]:
    """Who may see whom inside each shifted window."""
    labels = shift_labels(grid, window)
    return labels[:, :, None] == labels[:, None]


def windows_of(grid: Sizes, window: Sizes) -> Sizes:
    """How many windows there are along each axis.

    Raises ValueError naming the axis where they do not come out even.
    """
    if len(grid) != len(window):
        raise ValueError(f"window={window} must have a side for each of the {len(grid)} of grid={grid}")
    for name, size, side in zip(AXES.get(len(grid), range(len(grid))), grid, window, strict=True):
        if side < 1 or size % side:
            raise ValueError(f"{name} of {size} tokens does not divide into {side}s: grid={grid}, window={window}")
    return tuple(size // side for size, side in zip(grid, window, strict=True))


def halves(window: Sizes) -> Sizes:
    """How far each axis is shifted; where windows hold one token, not at all."""
    return tuple(side // 2 for side in window)


def _rolled(x: Shaped[Tensor, "b n d"], grid: Sizes, steps: Sizes) -> Shaped[Tensor, "b n d"]:
    return x.unflatten(1, grid).roll(steps, dims=tuple(range(1, len(grid) + 1))).flatten(1, len(grid))


def _by_window(axes: int) -> list[int]:
    """From (b, windows, side, windows, side, ..., d) to (b, windows, ..., sides, ..., d)."""
    return [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
