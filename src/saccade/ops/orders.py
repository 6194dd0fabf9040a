"""Token orders that bring neighbours on a grid together, so that a local mask fills few blocks.

An order lists the tokens as a kernel takes them. Every image grid comes first, in its own order, so that tiles begin
where blocks begin; tokens without a grid follow unchanged. q, k, v are permuted by it and the output permuted back:
the result is the same, only the blocks differ.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from saccade.core.layout import Grid, Layout

SMALL = 1 << 14  # tokens of a grid, up to which blocks of many shapes do no harm


@dataclass(frozen=True)
class Tiles:
    """Tiles of t x h x w tokens in raster order, raster inside; border tiles may be smaller.

    Raises ValueError for options out of range.
    """

    t: int
    h: int
    w: int

    def __post_init__(self) -> None:
        if min(self.t, self.h, self.w) < 1:
            raise ValueError(f"tile ({self.t}, {self.h}, {self.w}) must have sides of at least 1")

    def places(self, grid: Grid) -> Int[Tensor, " n"]:
        """The grid's tokens, tile by tile; a window-first order when the tile is the window."""
        keys = torch.zeros(grid, dtype=torch.int64)
        for axis, (side, tile) in enumerate(zip(grid, (self.t, self.h, self.w), strict=True)):
            keys = keys * -(-side // tile) + _along(torch.arange(side) // tile, axis)
        return torch.argsort(keys.flatten(), stable=True)


@dataclass(frozen=True)
class Bars:
    """Bars along w, about t x h tokens across and as equal as the grid lets them be, walked there and back.

    A bar is walked slice by slice, so any run of tokens is a compact piece wherever it begins, and a run that goes on
    in the next bar lies beside itself. No side need divide the grid's.
    Raises ValueError for options out of range.
    """

    t: int
    h: int

    def __post_init__(self) -> None:
        if min(self.t, self.h) < 1:
            raise ValueError(f"a bar of {self.t} x {self.h} must be at least 1 token across")

    def places(self, grid: Grid) -> Int[Tensor, " n"]:
        """The grid's tokens, bar by bar."""
        bars_h = max(round(grid[1] / self.h), 1)
        t, h, w = torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
        layer = t * max(round(grid[0] / self.t), 1) // grid[0]
        row = _back_if_odd(h * bars_h // grid[1], layer, bars_h)
        bar = layer * bars_h + row
        slice_ = bar * grid[2] + _back_if_odd(w, bar, grid[2])
        return torch.argsort(((slice_ * grid[0] + t) * grid[1] + h).flatten())


@dataclass(frozen=True)
class Hilbert:
    """Along a Hilbert curve over (h, w), frame after frame: any run of tokens is a compact patch."""

    def places(self, grid: Grid) -> Int[Tensor, " n"]:
        """The grid's tokens along the curve; grids that are no power of two follow the curve of the next one."""
        t, h, w = grid
        level = max(h - 1, w - 1, 1).bit_length()
        y, x = (c.flatten() for c in torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
        frame = torch.argsort(_hilbert(y, x, level))
        return (torch.arange(t)[:, None] * h * w + frame).flatten()


@dataclass(frozen=True)
class HilbertTiles:
    """Tiles of h x w tokens in raster order, along a Hilbert curve inside each; frame after frame.

    Raises ValueError for options out of range.
    """

    h: int
    w: int

    def __post_init__(self) -> None:
        if min(self.h, self.w) < 1:
            raise ValueError(f"tile ({self.h}, {self.w}) must have sides of at least 1")

    def places(self, grid: Grid) -> Int[Tensor, " n"]:
        """The grid's tokens, tile by tile; tiles that are no power of two follow the curve of the next one."""
        level = max(self.h - 1, self.w - 1, 1).bit_length()
        y, x = (c.flatten() for c in torch.meshgrid(torch.arange(grid[1]), torch.arange(grid[2]), indexing="ij"))
        tile = y // self.h * -(-grid[2] // self.w) + x // self.w
        frame = torch.argsort((tile << 2 * level) + _hilbert(x % self.w, y % self.h, level))
        return (torch.arange(grid[0])[:, None] * grid[1] * grid[2] + frame).flatten()


Order = Tiles | Bars | Hilbert | HilbertTiles


@lru_cache(maxsize=64)
def tokens(order: Order | None, layout: Layout) -> Int[Tensor, " n"] | None:
    """All tokens of a layout in the order; None stands for the order they are in."""
    if order is None or not any(s.grid for s in layout.segments):
        return None
    starts = {s.name: layout.span(s.name).start for s in layout.segments}
    grids = [starts[s.name] + order.places(s.grid) for s in layout.segments if s.grid]
    rest = [torch.arange(s.n) + starts[s.name] for s in layout.segments if not s.grid]
    return torch.cat((*grids, *rest))


def candidates(layout: Layout, block: int) -> tuple[Order | None, ...]:
    """Orders worth trying for blocks of `block` tokens: as it is, bars whose runs of a block are compact, a curve."""
    grids = [s.grid for s in layout.segments if s.grid]
    bars = {bar for grid in grids for bar in _bars(grid, block)}
    flat = any(grid[0] == 1 for grid in grids)
    return (None, *sorted(bars, key=repr), *((Hilbert(),) if flat else ()))


def inverse(order: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Where each token went: x[order][inverse(order)] is x."""
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return back


def reordered(x: Shaped[Tensor, "b h n d"], order: Int[Tensor, " m"]) -> Shaped[Tensor, "b h m d"]:
    """Tokens in an order. On a CPU as rows, which torch copies whole: along other axes it goes number by number."""
    if x.device.type != "cpu":
        return x.index_select(2, order)
    b, h, n = x.shape[:3]
    rows = order + n * torch.arange(b * h)[:, None]
    return x.flatten(0, 2).index_select(0, rows.flatten()).unflatten(0, (b, h, len(order)))


def _bars(grid: Grid, block: int) -> set[Bars]:
    """Bars whose slices fill blocks of a power of two, so that most blocks have one shape, and the most compact one."""
    if grid[0] == 1:
        wide, high = _near_square(block)
        return {Bars(1, wide), Bars(1, high)} | ({Bars(1, round(block**0.5))} if math.prod(grid) <= SMALL else set())
    depths = [depth for depth in (1, 2, 4) if depth <= grid[0]]
    side = round(block ** (1 / 3))
    return {Bars(depth, _near_square(block // depth)[0]) for depth in depths} | {Bars(min(side, grid[0]), side)}


def _near_square(area: int) -> tuple[int, int]:
    half = (max(area, 1).bit_length() - 1) // 2
    return 1 << half, max(area >> half, 1)


def _along(values: Tensor, axis: int) -> Tensor:
    return values.reshape([-1 if a == axis else 1 for a in range(3)])


def _back_if_odd(place: Tensor, line: Tensor, length: int) -> Tensor:
    """Places counted from the other end on every second line."""
    return torch.where(line % 2 == 1, length - 1 - place, place)


def _hilbert(y: Tensor, x: Tensor, level: int) -> Tensor:
    """Distance along the curve of side 2^level: quadrants taken in turn, each rotated into place."""
    distance = torch.zeros_like(x)
    for s in (1 << bit for bit in reversed(range(level))):
        right, up = (x & s) > 0, (y & s) > 0
        distance += s * s * torch.where(right, torch.where(up, 2, 3), torch.where(up, 1, 0))
        flip = ~up & right
        x, y = (
            torch.where(flip, s - 1 - (x & (s - 1)), x & (s - 1)),
            torch.where(flip, s - 1 - (y & (s - 1)), y & (s - 1)),
        )
        x, y = torch.where(up, x, y), torch.where(up, y, x)
    return distance
