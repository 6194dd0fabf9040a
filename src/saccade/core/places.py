"""Masks over places: discs, bands, windows, causal order. All but the last name only pairs of the same image grid."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.core.checks import check_numbers
from saccade.core.coarse import Coarse, Judge, Verdict, always, both
from saccade.core.features import Features, features
from saccade.core.layout import Grid, Layout, Segment
from saccade.core.masks import CoarseRule, Device, Mask, Predicate, Rule

AXES = {"t": 0, "y": 1, "x": 2}
Steps = tuple[Tensor, Tensor]  # smallest and largest distance along each axis, each (3 *p)
FAR = 1 << 13  # beyond any grid; its square, three times, fits 32 bits


@dataclass(frozen=True)
class Disc(Mask):
    """Image tokens see image tokens nearer than `radius`, in tokens: dt^2 + dy^2 + dx^2 < radius^2, strictly.

    Raises ValueError for options out of range.
    """

    radius: float

    def __post_init__(self) -> None:
        check_numbers(radius=self.radius)
        if not self.radius > 0:
            raise ValueError(f"radius={self.radius} must be positive; 1 leaves each image token its own key only")

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        need_grid(self, layout_q, layout_k)
        q_at, k_at, limit = grid_places(layout_q, device), grid_places(layout_k, device), _limit(self.radius)

        def permits(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            dt, dy, dx = (q_at[axis][q] - k_at[axis][k] for axis in range(3))
            return dt * dt + dy * dy + dx * dx < limit

        return _same_grid(q_at, k_at), permits

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        q_at, k_at = grid_places(layout_q, device), grid_places(layout_k, device)
        limit = _limit(self.radius)

        def near_enough(steps: Steps) -> Verdict:
            near, far = ((part * part).sum(0)[None, None] for part in steps)
            return Verdict(near < limit, far < limit)

        return _on_one_grid(q_at, k_at), by_boxes(q_at, k_at, near_enough)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return _steps(layout_q, layout_k)

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Segment, k: Segment) -> int | None:
        if q.grid is None or k.grid is None or not q.kind == k.kind == "image":
            return q.n * k.n
        same = _number(layout_q, q) == _number(layout_k, k)
        return count_within(q.grid, k.grid, self.radius) if same else q.n * k.n


@dataclass(frozen=True)
class Band(Mask):
    """Image tokens see image tokens fewer than `width` steps away along one axis of the grid.

    Raises ValueError for options out of range.
    """

    axis: Literal["t", "y", "x"]
    width: int

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width={self.width} must be at least 1, which leaves each token its own line")

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        need_grid(self, layout_q, layout_k)
        q_at, k_at = grid_places(layout_q, device), grid_places(layout_k, device)
        line_q, line_k = q_at[AXES[self.axis]], k_at[AXES[self.axis]]
        return _same_grid(q_at, k_at), lambda b, h, q, k: (line_q[q] - line_k[k]).abs() < self.width

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        q_at, k_at, axis = grid_places(layout_q, device), grid_places(layout_k, device), AXES[self.axis]

        def near_enough(steps: Steps) -> Verdict:
            near, far = (part[axis][None, None] for part in steps)
            return Verdict(near < self.width, far < self.width)

        return _on_one_grid(q_at, k_at), by_boxes(q_at, k_at, near_enough)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return _steps(layout_q, layout_k)


@dataclass(frozen=True)
class Windows(Mask):
    """Image tokens see the image tokens of their own window, size x size in (y, x); windows do not overlap.

    Raises ValueError for options out of range.
    """

    size: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size} must be at least 1, which leaves each token its own place")

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        need_grid(self, layout_q, layout_k)
        q_at, k_at = grid_places(layout_q, device), grid_places(layout_k, device)
        q_in, k_in = q_at[1:3] // self.size, k_at[1:3] // self.size
        return _same_grid(q_at, k_at), lambda b, h, q, k: (q_in[0][q] == k_in[0][k]) & (q_in[1][q] == k_in[1][k])

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        q_at, k_at = (_in_windows(grid_places(layout, device), self.size) for layout in (layout_q, layout_k))

        def same(steps: Steps) -> Verdict:
            near, far = ((part == 0).all(0)[None, None] for part in steps)
            return Verdict(near, far)

        return _on_one_grid(q_at, k_at), by_boxes(q_at, k_at, same)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        q_at, k_at = (_in_windows(grid_places(layout, None), self.size) for layout in (layout_q, layout_k))
        return features(q_at[3], k_at[3], q_at[:3], k_at[:3], n=layout_q.n, m=layout_k.n)


@dataclass(frozen=True)
class RasterBand(Mask):
    """Image tokens see image tokens at most `reach` places away in the raster order of a frame, in every frame.

    Raises ValueError for options out of range.
    """

    reach: int

    def __post_init__(self) -> None:
        if self.reach < 0:
            raise ValueError(f"reach={self.reach} must be at least 0, which leaves each token its own place")

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        need_grid(self, layout_q, layout_k)
        q_at, k_at = raster_places(layout_q, device), raster_places(layout_k, device)
        return _same_grid(q_at, k_at), lambda b, h, q, k: (q_at[0][q] - k_at[0][k]).abs() <= self.reach

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        """By the places from the first to the last of a block; a token without one widens them, which is careful."""
        q_at, k_at = raster_places(layout_q, device), raster_places(layout_k, device)

        def judge(q: Tensor, k: Tensor) -> Judge:
            (first_q, last_q), (first_k, last_k) = ((x.amin(-1), x.amax(-1)) for x in (q_at[0][q], k_at[0][k]))

            def near_enough(i: Tensor, j: Tensor) -> Verdict:
                near = torch.maximum(first_k[j] - last_q[i], first_q[i] - last_k[j])
                far = torch.maximum(last_k[j] - first_q[i], last_q[i] - first_k[j])
                return Verdict((near <= self.reach)[None, None], (far <= self.reach)[None, None])

            return Judge(near_enough)

        return _on_one_grid(q_at, k_at), judge

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        q_at, k_at = raster_places(layout_q, None), raster_places(layout_k, None)
        return features(q_at[1], k_at[1], q_at[0], k_at[0], n=layout_q.n, m=layout_k.n)

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Segment, k: Segment) -> int | None:
        if q.grid is None or k.grid is None or not q.kind == k.kind == "image":
            return q.n * k.n
        if _number(layout_q, q) != _number(layout_k, k):
            return q.n * k.n
        frame_q, frame_k = (grid[1] * grid[2] for grid in (q.grid, k.grid))
        steps = torch.arange(max(1 - frame_k, -self.reach), min(frame_q - 1, self.reach) + 1)
        return q.grid[0] * k.grid[0] * int(_overlap(steps, frame_q, frame_k).sum())


@dataclass(frozen=True)
class Causal(Mask):
    """Every query sees the keys at or before its own place; places count from the end when keys outnumber queries.

    keys   how many keys the order is about, those appended later staying open; None for all there are
    ahead  keys before the first query's own place, where they do not count from the end
    """

    keys: int | None = None
    ahead: int | None = None

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        keys, ahead = self._ends(layout_q, layout_k)
        return lambda b, h, q, k: k < keys + 0 * q, lambda b, h, q, k: k <= q + ahead

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        keys, ahead = self._ends(layout_q, layout_k)
        every, places = (torch.arange(layout.n, device=device) for layout in (layout_q, layout_k))

        def judge(q: Tensor, k: Tensor) -> Judge:
            (first_q, last_q), (first_k, last_k) = ((x.amin(-1), x.amax(-1)) for x in (q, k))

            def before(i: Tensor, j: Tensor) -> Verdict:
                pairs = ((first_k[j], last_q[i]), (last_k[j], first_q[i]))
                return Verdict(*((key <= query + ahead)[None, None] for key, query in pairs))

            return Judge(before)

        return both(every >= 0, places < keys), judge

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        q, k = torch.arange(layout_q.n), torch.arange(layout_k.n)
        return features(k=k < self._ends(layout_q, layout_k)[0], at_q=q, at_k=k, n=layout_q.n, m=layout_k.n)

    def _ends(self, layout_q: Layout, layout_k: Layout) -> tuple[int, int]:
        """How many keys the order is about, and how many of them come before the first query's own place."""
        keys = layout_k.n if self.keys is None else self.keys
        return keys, keys - layout_q.n if self.ahead is None else self.ahead


def need_grid(mask: Mask, layout_q: Layout, layout_k: Layout) -> None:
    """ValueError where no token has a place, since then a mask over places would silently do nothing."""
    if not any(s.grid for layout in (layout_q, layout_k) for s in layout.of("image")):
        raise ValueError(
            f"{mask} needs an image grid and these tokens are {layout_k.describe()}; give the layout of the sequence, "
            "as Layout.joint(text=..., grid=(t, h, w), text_first=...)"
        )


def grid_places(layout: Layout, device: Device) -> Tensor:
    """(4, n) int32: t, y, x and the number of the image grid a token lies on, -1 for all other tokens."""
    places = torch.full((4, layout.n), -1, dtype=torch.int32, device=device)
    coords = layout.coords(device).T.to(torch.int32)
    for number, segment in enumerate(layout.of("image")):
        if segment.grid is not None:
            span = layout.span(segment.name)
            places[:3, span], places[3, span] = coords[:, span], number
    return places


def raster_places(layout: Layout, device: Device) -> Int[Tensor, "2 n"]:
    """(2, n) int32: place in the raster order of its frame, and number of the image grid; -1 for all other tokens."""
    places = torch.full((2, layout.n), -1, dtype=torch.int32, device=device)
    for number, segment in enumerate(layout.of("image")):
        if segment.grid is not None:
            span, frame = layout.span(segment.name), segment.grid[1] * segment.grid[2]
            places[0, span] = torch.arange(segment.n, dtype=torch.int32, device=device) % frame
            places[1, span] = number
    return places


def _same_grid(q_at: Tensor, k_at: Tensor) -> Predicate:
    return lambda b, h, q, k: (q_at[-1][q] >= 0) & (q_at[-1][q] == k_at[-1][k])


def count_within(grid_q: Grid, grid_k: Grid, radius: float) -> int:
    """Pairs of places nearer than `radius`, strictly, between two grids that share their origin; counted by offset."""
    dt, dy, dx = (torch.arange(1 - k, q) for q, k in zip(grid_q, grid_k, strict=True))
    at_t, at_y, at_x = (_overlap(d, q, k) for d, q, k in zip((dt, dy, dx), grid_q, grid_k, strict=True))
    near = dt[:, None, None] ** 2 + dy[:, None] ** 2 + dx**2 < _limit(radius)
    return int((near * at_t[:, None, None] * at_y[:, None] * at_x).sum())


def _limit(radius: float) -> int:
    """The whole number that squared distances must stay below, free of the rounding of a comparison with a float."""
    return math.ceil(min(radius**2, 1 << 30))


def _overlap(d: Int[Tensor, " o"], q: int, k: int) -> Int[Tensor, " o"]:
    """How many pairs i < q, j < k have i - j = d."""
    return (d + k).clamp(max=q) - d.clamp(min=0)


def _box(at: Int[Tensor, "4 n"], block: Int[Tensor, "B s"]) -> tuple[Tensor, Tensor]:
    """(low, high), each (3 B): the box round the tokens of a block that lie on a grid; inside out where none does."""
    places, on_grid = at[:3, block], at[3, block] >= 0
    low = places.masked_fill(~on_grid, FAR).amin(-1)
    return low, places.masked_fill(~on_grid, -FAR).amax(-1)


def by_boxes(q_at: Int[Tensor, "4 n"], k_at: Int[Tensor, "4 m"], verdict: Callable[[Steps], Verdict]) -> Coarse:
    """Judges blocks by the steps between the boxes round them."""

    def judge(q: Tensor, k: Tensor) -> Judge:
        (low_q, high_q), (low_k, high_k) = _box(q_at, q), _box(k_at, k)
        return Judge(lambda i, j: verdict(_apart((low_q[:, i], high_q[:, i]), (low_k[:, j], high_k[:, j]))))

    return judge


def _apart(q: tuple[Tensor, Tensor], k: tuple[Tensor, Tensor]) -> Steps:
    """Smallest and largest distance between two boxes along each axis, each (3 *p)."""
    (low_q, high_q), (low_k, high_k) = q, k
    right, left = low_k - high_q, low_q - high_k
    return torch.maximum(right, left).clamp(min=0), torch.maximum(high_q - low_k, high_k - low_q)


def _steps(layout_q: Layout, layout_k: Layout) -> Features:
    """On which grid a token lies, and the step from query to key."""
    q_at, k_at = grid_places(layout_q, None), grid_places(layout_k, None)
    return features(q_at[3], k_at[3], q_at[:3], k_at[:3], n=layout_q.n, m=layout_k.n)


def _in_windows(at: Int[Tensor, "4 n"], size: int) -> Int[Tensor, "4 n"]:
    """Windows in the place of rows and columns; frames do not count."""
    return torch.stack((at[0] * 0, at[1] // size, at[2] // size, at[3]))


def _on_one_grid(q_at: Int[Tensor, "a n"], k_at: Int[Tensor, "a m"]) -> Coarse:
    """Whether some, or all, pairs of a block lie on the same image grid, whose number stands in the last row."""
    numbers = range(int(max(q_at[-1].max(), k_at[-1].max())) + 1)
    grids = [both(q_at[-1] == g, k_at[-1] == g) for g in numbers]

    def judge(q: Tensor, k: Tensor) -> Judge:
        found = ~always(q, k)
        for grid in grids:
            found = found | grid(q, k)
        return found

    return judge


def _number(layout: Layout, segment: Segment) -> int:
    return layout.of("image").index(segment)
