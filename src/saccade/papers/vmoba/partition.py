"""A video's tokens in chunks: runs of frames, tiles through all frames, or boxes; and the mask of each token's own."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.core.features import Features
from saccade.core.inference import outside_inference
from saccade.core.layout import Grid, Layout, Segment
from saccade.core.masks import CoarseRule, Device, Mask, Rule, Table


@dataclass(frozen=True)
class Frames:
    """Runs of int(frames * h * w) tokens, the last of which may be shorter; `frames` need not be whole."""

    frames: float


@dataclass(frozen=True)
class Tile:
    """Tiles of h x w tokens through all frames."""

    h: int
    w: int


@dataclass(frozen=True)
class Box:
    """Boxes of t x h x w tokens."""

    t: int
    h: int
    w: int


Blocks = Frames | Tile | Box


@dataclass(frozen=True, eq=False)
class Chunks:
    """label: the chunk of each token in raster order; order: the tokens, chunk after chunk; sizes of the chunks.

    own: which chunk each token is in
    """

    label: Int[Tensor, " n"]
    order: Int[Tensor, " n"]
    sizes: tuple[int, ...]
    own: Bool[Tensor, "c n"]

    def to_blocks(self, x: Tensor, dim: int) -> Tensor:
        """Tokens in raster order, chunk after chunk."""
        return x.index_select(dim, self.order)

    def from_blocks(self, x: Tensor, dim: int) -> Tensor:
        """The inverse of `to_blocks`."""
        return x.index_select(dim, self.order.argsort())


def chunks(blocks: Blocks, grid: Grid, device: torch.device) -> Chunks:
    """A grid's chunks; raises ValueError where blocks and grid do not fit."""
    return (_made if torch.compiler.is_compiling() else _kept)(blocks, grid, device)  # a graph cannot hold the cache


@lru_cache(maxsize=64)
def _kept(blocks: Blocks, grid: Grid, device: torch.device) -> Chunks:
    with outside_inference():
        return _made(blocks, grid, device)


def _made(blocks: Blocks, grid: Grid, device: torch.device) -> Chunks:
    label, count = _runs(blocks, grid) if isinstance(blocks, Frames) else _boxes(blocks, grid)
    label = label.to(device)
    own = label == torch.arange(len(count), device=device)[:, None]
    return Chunks(label, label.argsort(stable=True), count, own)


def _runs(blocks: Frames, grid: Grid) -> tuple[Tensor, tuple[int, ...]]:
    n, size = grid[0] * grid[1] * grid[2], int(blocks.frames * grid[1] * grid[2])
    if grid[0] == 1:
        raise ValueError(f"frames={blocks.frames} divides a video in time, grid={grid} is one frame; give tile= alone")
    if size < 1:
        raise ValueError(f"frames={blocks.frames} of grid={grid} hold no token; give more")
    return torch.arange(n) // size, tuple(min(size, n - start) for start in range(0, n, size))


def _boxes(blocks: Tile | Box, grid: Grid) -> tuple[Tensor, tuple[int, ...]]:
    if isinstance(blocks, Tile):
        name, given, sides = "tile", (blocks.h, blocks.w), (grid[0], blocks.h, blocks.w)
    else:
        name, given, sides = "box", (blocks.t, blocks.h, blocks.w), (blocks.t, blocks.h, blocks.w)
    if any(whole % side for whole, side in zip(grid, sides, strict=True)):
        raise ValueError(f"{name}={given} must divide the grid (t, h, w) = {grid}; give divisors of its sides")
    counts = [whole // side for whole, side in zip(grid, sides, strict=True)]
    t, h, w = (torch.arange(whole) // side for whole, side in zip(grid, sides, strict=True))
    label = (t[:, None, None] * counts[1] + h[:, None]) * counts[2] + w
    return label.flatten(), (sides[0] * sides[1] * sides[2],) * (counts[0] * counts[1] * counts[2])


@dataclass(frozen=True)
class OwnChunk(Mask):
    """Image tokens see no image tokens but those of their own chunk; text is seen by all and sees all."""

    blocks: Blocks

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        in_q, in_k = (label.to(device) for label in self._labels(layout_q, layout_k))
        return lambda b, h, q, k: (in_q[q] >= 0) & (in_k[k] >= 0), lambda b, h, q, k: in_q[q] == in_k[k]

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return self._table(layout_q, layout_k).coarse(layout_q, layout_k, device)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return self._table(layout_q, layout_k).features(layout_q, layout_k)

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Segment, k: Segment) -> int | None:
        if q.grid is None or k != layout_q.image:
            return q.n * k.n
        return sum(size**2 for size in self._in(layout_q).sizes)

    def _in(self, layout: Layout) -> Chunks:
        assert layout.image.grid is not None
        return chunks(self.blocks, layout.image.grid, torch.device("cpu"))

    def _labels(self, layout_q: Layout, layout_k: Layout) -> tuple[Tensor, Tensor]:
        """The chunk of each token, -1 for those of no image."""
        label, spans = self._in(layout_q).label, [x.span(layout_q.image.name) for x in (layout_q, layout_k)]
        in_q, in_k = (
            torch.nn.functional.pad(label, (span.start, layout.n - span.stop), value=-1)
            for span, layout in zip(spans, (layout_q, layout_k), strict=True)
        )
        return in_q, in_k

    def _table(self, layout_q: Layout, layout_k: Layout) -> Table:
        (in_q, in_k), count = self._labels(layout_q, layout_k), len(self._in(layout_q).sizes)
        return Table(in_q, in_k, torch.eye(count, dtype=torch.bool))
