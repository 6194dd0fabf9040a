"""What each token of a sequence is: named segments in order.

A layout is a value: hashable, comparable, without tensors, so plans and prepared masks can be kept under it.
Visual tokens are one segment of kind "image" with a grid (t, h, w) in raster order; a video is a grid with t > 1.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Int
from torch import Tensor

SegmentKind = Literal["text", "image", "padding", "extra"]
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Segment:
    """A run of `n` tokens of one kind; `grid` (t, h, w) gives image tokens their places.

    Raises ValueError for options out of range.
    """

    name: str
    kind: SegmentKind
    n: int
    grid: Grid | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(SegmentKind):
            raise ValueError(f"kind='{self.kind}' of segment '{self.name}' must be one of {get_args(SegmentKind)}")
        if self.n < 0:
            raise ValueError(f"n={self.n} of segment '{self.name}' must not be negative")
        if self.grid is not None and self.grid[0] * self.grid[1] * self.grid[2] != self.n:
            raise ValueError(
                f"grid={self.grid} of segment '{self.name}' holds {_volume(self.grid)} tokens, not n={self.n}"
            )


@dataclass(frozen=True)
class Layout:
    """Segments in sequence order.

    >>> Layout.joint(text=512, grid=(1, 64, 64)).n
    4608
    Raises ValueError for options out of range.
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        names = [s.name for s in self.segments]
        if len(set(names)) != len(names):
            raise ValueError(f"segment names {names} must differ; rename the repeated one")

    @classmethod
    def joint(cls, *, text: int, grid: Grid, text_first: bool = True) -> "Layout":
        """Text and one image grid in one sequence, as in FLUX (text first) or SD3 (text last)."""
        words, picture = Segment("text", "text", text), Segment("image", "image", _volume(grid), grid)
        return cls((words, picture) if text_first else (picture, words))

    @classmethod
    def image_only(cls, grid: Grid) -> "Layout":
        """One image grid and nothing else."""
        return cls((Segment("image", "image", _volume(grid), grid),))

    @classmethod
    def plain(cls, n: int, kind: SegmentKind = "text") -> "Layout":
        """`n` tokens of one kind, without a grid."""
        return cls((Segment(kind, kind, n),))

    @property
    def n(self) -> int:
        """Number of tokens."""
        return sum(s.n for s in self.segments)

    def span(self, name: str) -> slice:
        """Where the segment `name` lies in the sequence.

        Raises ValueError for a segment there is not.
        """
        ends = list(accumulate((s.n for s in self.segments), initial=0))
        for segment, start, end in zip(self.segments, ends, ends[1:], strict=False):
            if segment.name == name:
                return slice(start, end)
        raise ValueError(f"segment '{name}' is not in the layout; it has {[s.name for s in self.segments]}")

    def of(self, kind: SegmentKind) -> tuple[Segment, ...]:
        """All segments of one kind, in order."""
        return tuple(s for s in self.segments if s.kind == kind)

    @property
    def image(self) -> Segment:
        """The one visual segment; an error where there is none or more than one.

        Raises ValueError where there is no image grid, or more than one.
        """
        found = [s for s in self.of("image") if s.grid is not None]
        if len(found) != 1:
            raise ValueError(f"the layout has {len(found)} image grids where one is needed: {self.describe()}")
        return found[0]

    @property
    def text_n(self) -> int:
        """Number of text tokens."""
        return sum(s.n for s in self.of("text"))

    def is_(self, kind: SegmentKind, device: torch.device | str | None = None) -> Bool[Tensor, " n"]:
        """Which tokens are of `kind`."""
        return torch.cat([torch.full((s.n,), s.kind == kind, device=device) for s in self.segments])

    def coords(self, device: torch.device | str | None = None) -> Int[Tensor, "n 3"]:
        """(t, y, x) of each token on its grid, -1 for tokens without one."""
        places = _coords.__wrapped__ if torch.compiler.is_compiling() else _coords  # a graph cannot hold the cache
        return places(self).to(device or "cpu")

    def append(self, segment: Segment) -> "Layout":
        """The layout with one more segment at its end."""
        return Layout((*self.segments, segment))

    def describe(self) -> str:
        """One line for people: `text 512 | image 4096 (1x64x64)`."""
        return " | ".join(
            f"{s.name} {s.n}" + (f" ({'x'.join(map(str, s.grid))})" if s.grid else "") for s in self.segments
        )


def _volume(grid: Grid) -> int:
    return grid[0] * grid[1] * grid[2]


@lru_cache(maxsize=256)
def _coords(layout: Layout) -> Int[Tensor, "n 3"]:
    return torch.cat([_segment_coords(s) for s in layout.segments])


def _segment_coords(segment: Segment) -> Int[Tensor, "n 3"]:
    if segment.grid is None:
        return torch.full((segment.n, 3), -1)
    return torch.cartesian_prod(*(torch.arange(side) for side in segment.grid)).reshape(-1, 3)
