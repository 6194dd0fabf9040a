"""Masks of tokens that must stand near each other, within one grid or between a picture and its low-resolution copy.

Every token has a place on the high-resolution grid, a low-resolution one that of its first corner; a mask divides it
into units. A pair passes where the steps along both axes, or their sum, are at most `reach`. So blocks are judged by
the boxes round them, blocks alike are looked at once, and counts need no n x n map.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.core.coarse import Verdict, both
from saccade.core.features import Features, features
from saccade.core.labels import member
from saccade.core.layout import Layout, Segment
from saccade.core.masks import CoarseRule, Device, Mask, Rule
from saccade.core.places import Steps, by_boxes
from saccade.papers.scale_dit.anchor_layout import HIGH, LOW, grid_of, low_window, ratio_of

Neighbours = Literal["row", "grid"]


class Near(Mask):
    """Base: subclasses place tokens and say how far apart a query and a key may stand.

    between  the segments of queries and of keys that it names
    metric   "box": at most `reach` along each axis; "cross": along both together
    """

    between: ClassVar[tuple[str, str]] = (HIGH, HIGH)
    metric: ClassVar[Literal["box", "cross"]] = "box"

    def places(self, layout: Layout) -> Int[Tensor, "2 n"]:
        """Two coordinates for each token, anything for those without a place."""
        raise NotImplementedError

    def reach(self, layout: Layout) -> int:
        """How far apart a query and a key may stand."""
        raise NotImplementedError

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        reach = self.reach(layout_q)
        at_q, at_k = (self.places(layout).to(device) for layout in (layout_q, layout_k))
        in_q, in_k = (member(x, name, device) for x, name in zip((layout_q, layout_k), self.between, strict=True))

        def permits(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            down, across = ((at_q[axis][q] - at_k[axis][k]).abs() for axis in range(2))
            return torch.maximum(down, across) <= reach if self.metric == "box" else down + across <= reach

        return lambda b, h, q, k: in_q[q] & in_k[k], permits

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        reach = self.reach(layout_q)
        at_q, at_k = (self._boxed(x, i).to(device) for i, x in enumerate((layout_q, layout_k)))

        def near_enough(steps: Steps) -> Verdict:
            near, far = (part.amax(0) if self.metric == "box" else part.sum(0) for part in steps)
            return Verdict((near <= reach)[None, None], (far <= reach)[None, None])

        return both(at_q[3] >= 0, at_k[3] >= 0), by_boxes(at_q, at_k, near_enough)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        in_q, in_k = (member(x, name) for x, name in zip((layout_q, layout_k), self.between, strict=True))
        return features(in_q, in_k, self.places(layout_q), self.places(layout_k), n=layout_q.n, m=layout_k.n)

    def count_pairs(self, layout_q: Layout, layout_k: Layout, q: Segment, k: Segment) -> int | None:
        """By offset: how many queries stand at a place times how many keys at the place a step away."""
        if (q.name, k.name) != self.between:
            return q.n * k.n
        at_q, at_k = self.places(layout_q)[:, layout_q.span(q.name)], self.places(layout_k)[:, layout_k.span(k.name)]
        high, wide = (torch.cat((at_q, at_k), dim=1).amax(1) + 1).tolist()
        reach = min(self.reach(layout_q), high + wide)
        queries, keys = (_histogram(at, high, wide) for at in (at_q, at_k))
        keys = torch.nn.functional.pad(keys, (reach,) * 4)
        return sum(
            int((queries * keys[reach + down : reach + down + high, reach + across : reach + across + wide]).sum())
            for down in range(-reach, reach + 1)
            for across in range(-reach, reach + 1)
            if self.metric == "box" or abs(down) + abs(across) <= reach
        )

    def _boxed(self, layout: Layout, side: int) -> Int[Tensor, "4 n"]:
        """Places as `by_boxes` takes them: three coordinates, and -1 for tokens that are not named."""
        named = member(layout, self.between[side]).int() - 1
        return torch.stack((named * 0, *self.places(layout), named))


@dataclass(frozen=True)
class HighBox(Near):
    """High-resolution tokens see those within half a `window` along each axis, that distance included."""

    window: int

    def places(self, layout: Layout) -> Int[Tensor, "2 n"]:
        return placed(layout)

    def reach(self, layout: Layout) -> int:
        return self.window // 2


@dataclass(frozen=True)
class LowBox(Near):
    """The same among low-resolution tokens, whose window covers the same part of the picture."""

    window: int
    between: ClassVar[tuple[str, str]] = (LOW, LOW)

    def places(self, layout: Layout) -> Int[Tensor, "2 n"]:
        return placed(layout, unit=_ratio(layout))

    def reach(self, layout: Layout) -> int:
        return low_window(layout, self.window) // 2 if grid_of(layout, LOW) else 0


@dataclass(frozen=True)
class AnchorWindows(Near):
    """High-resolution tokens see low-resolution ones of their own window and of those beside it.

    neighbours  "row": numbers one less and one more, so the first of a row has the last of the row before beside it,
                and none above or below; "grid": all eight around
    """

    window: int
    neighbours: Neighbours = "row"
    between: ClassVar[tuple[str, str]] = (HIGH, LOW)

    def places(self, layout: Layout) -> Int[Tensor, "2 n"]:
        if grid_of(layout, LOW):
            low_window(layout, self.window)  # refuses what windows do not fill
        down, across = placed(layout, unit=self.window)
        if self.neighbours == "grid":
            return torch.stack((down, across))
        return torch.stack((down * 0, down * (across.max() + 1) + across))

    def reach(self, layout: Layout) -> int:
        return 1


@dataclass(frozen=True)
class HighWindows(Near):
    """High-resolution tokens see those of their own window, all windows shifted by `shift` tokens, wrapped round."""

    window: int
    shift: int = 0

    def places(self, layout: Layout) -> Int[Tensor, "2 n"]:
        return placed(layout, unit=self.window, shift=self.shift)

    def reach(self, layout: Layout) -> int:
        return 0


@dataclass(frozen=True)
class CrossWindows(HighWindows):
    """Their own window and the four beside, above and below it."""

    metric: ClassVar[Literal["box", "cross"]] = "cross"

    def reach(self, layout: Layout) -> int:
        return 1


def placed(layout: Layout, *, unit: int = 1, shift: int = 0) -> Int[Tensor, "2 n"]:
    """Rows and columns on the high-resolution grid, after a shift that wraps round, in units of `unit`; 0 for text."""
    places, ratio, high = torch.zeros(2, layout.n, dtype=torch.int32), _ratio(layout), grid_of(layout, HIGH)
    for segment, scale in ((HIGH, 1), (LOW, ratio)):
        grid = grid_of(layout, segment)
        if grid is not None and high is not None:
            sides = [(torch.arange(n) * scale + shift) % side // unit for n, side in zip(grid, high, strict=True)]
            places[:, layout.span(segment)] = torch.cartesian_prod(*sides).T.int()
    return places


def _ratio(layout: Layout) -> int:
    high, low = grid_of(layout, HIGH), grid_of(layout, LOW)
    return 1 if high is None or low is None else ratio_of(high, low)


def _histogram(at: Int[Tensor, "2 n"], high: int, wide: int) -> Int[Tensor, "high wide"]:
    return torch.bincount(at[0].long() * wide + at[1], minlength=high * wide).view(high, wide)
