"""Blobs: ellipses that say where objects are, as the tokens they cover on a grid of any size.

Lengths are shares of the picture, x of its width and y of its height, so that an ellipse covers pi a b of it.
"""

from dataclasses import dataclass, replace
from math import cos, isfinite, pi, sin
from typing import Literal, Self, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from saccade.core.checks import check_word

Shape = Literal["ellipse", "box"]
EDGE = 1e-9  # what rounding may take from a token whose centre lies on the outline


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One object's place.

    x, y   centre
    a, b   half axes, a along `angle`
    angle  in radians, from x towards y
    name   the object's, for layouts to be compared by and for errors
    shape  "ellipse", or the "box" of these half sides
    Raises ValueError for axes that are not positive, and for a centre outside the picture.
    """

    x: float
    y: float
    a: float
    b: float
    angle: float = 0.0
    name: str = ""
    shape: Shape = "ellipse"

    def __post_init__(self) -> None:
        check_word(get_args(Shape), shape=self.shape)
        if not all(map(isfinite, (self.x, self.y, self.a, self.b, self.angle))) or min(self.a, self.b) <= 0:
            raise ValueError(f"axes a={self.a} and b={self.b} of {self.said} must be positive shares of the picture")
        if not (0 <= self.x <= 1 and 0 <= self.y <= 1):
            raise ValueError(
                f"centre ({self.x:g}, {self.y:g}) of {self.said} lies outside the picture; both are shares in [0, 1]"
            )

    @classmethod
    def of_box(cls, box: tuple[float, float, float, float], name: str = "", shape: Shape = "ellipse") -> Self:
        """The ellipse within a box x0, y0, x1, y1, or the box itself. Raises ValueError for a box without area."""
        x0, y0, x1, y1 = box
        return cls(x=(x0 + x1) / 2, y=(y0 + y1) / 2, a=(x1 - x0) / 2, b=(y1 - y0) / 2, name=name, shape=shape)

    @classmethod
    def of_mask(cls, mask: Bool[np.ndarray, "h w"], name: str = "") -> Self:
        """The ellipse with a segmentation's centre and second moments; each pixel counts with its own area.

        Raises ValueError for an empty mask.
        """
        if not mask.any():
            raise ValueError(f"the mask of {name or 'the object'} is empty; mark its pixels")
        rows, columns = np.nonzero(mask)
        places = np.stack(((columns + 0.5) / mask.shape[1], (rows + 0.5) / mask.shape[0]))
        own = np.diag([1 / 12 / side**2 for side in (mask.shape[1], mask.shape[0])])
        spread, axes = np.linalg.eigh(np.cov(places, bias=True) + own)
        (x, y), (b, a) = places.mean(1), 2 * np.sqrt(spread)
        angle = np.arctan2(axes[1, 1], axes[0, 1]) % pi
        return cls(x=float(x), y=float(y), a=float(a), b=float(b), angle=float(angle), name=name)

    @property
    def said(self) -> str:
        """How errors call it."""
        return f"blob '{self.name}'" if self.name else "a blob"

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 of the box around it, within the picture."""
        if self.shape == "box":
            half = [abs(self.a * c) + abs(self.b * s) for c, s in (self._turn, self._turn[::-1])]
        else:
            half = [((self.a * c) ** 2 + (self.b * s) ** 2) ** 0.5 for c, s in (self._turn, self._turn[::-1])]
        low, high = ([m + side * h for m, h in zip((self.x, self.y), half, strict=True)] for side in (-1, 1))
        x0, y0, x1, y1 = (min(max(v, 0.0), 1.0) for v in (*low, *high))
        return x0, y0, x1, y1

    def moved(self, to: tuple[float, float]) -> Self:
        """The same blob with another centre."""
        return replace(self, x=to[0], y=to[1])

    def on(self, grid: tuple[int, int]) -> Bool[Tensor, "h w"]:
        """Tokens of a grid whose centres lie in it: made for this very grid, never by resizing."""
        down, across = ((torch.arange(side, dtype=torch.float64) + 0.5) / side for side in grid)
        dx, dy = across[None, :] - self.x, down[:, None] - self.y
        c, s = self._turn
        u, v = (dx * c + dy * s) / self.a, (dy * c - dx * s) / self.b
        inside = u**2 + v**2 if self.shape == "ellipse" else torch.maximum(u.abs(), v.abs())
        return inside <= 1 + EDGE

    def touched(self, grid: tuple[int, int]) -> Bool[Tensor, "h w"]:
        """Tokens of a grid that it reaches into: those of the blob with axes half a token longer."""
        return replace(self, a=self.a + 0.5 / grid[1], b=self.b + 0.5 / grid[0]).on(grid)

    @property
    def _turn(self) -> tuple[float, float]:
        return cos(self.angle), sin(self.angle)


Blobs = tuple[Blob, ...]


def check_layouts(source: Blobs, target: Blobs, drag: int) -> None:
    """Raise ValueError unless the layouts have the same objects in the same order and only one has another place."""
    if not source:
        raise ValueError("source=() has no object; give a Blob for each, the dragged one among them")
    if len(source) != len(target):
        raise ValueError(f"source has {len(source)} objects and target {len(target)}; give the same, one dragged")
    if not 0 <= drag < len(source):
        raise ValueError(f"drag={drag} is none of the {len(source)} objects, counted from 0")
    for number, (one, other) in enumerate(zip(source, target, strict=True)):
        if one.name != other.name:
            raise ValueError(
                f"object {number} is '{one.name}' in source and '{other.name}' in target; give both in the same order"
            )
        if number != drag and one != other:
            raise ValueError(f"object {number} of target is not where it is in source, and drag={drag}; leave it there")


def way(source: Blob, target: Blob, grid: tuple[int, int]) -> tuple[int, int]:
    """(rows, columns) of a grid from one centre to the other, in whole tokens."""
    return round((target.y - source.y) * grid[0]), round((target.x - source.x) * grid[1])


def freed(source: Blob, target: Blob, grid: tuple[int, int], dilation: int = 2) -> Float[Tensor, "h w"]:
    """1 where the dragged object was and where it goes, `dilation` places further, and 0 elsewhere.

    Raises ValueError for a dilation below 0.
    """
    if dilation < 0:
        raise ValueError(f"dilation={dilation} must be at least 0 places")
    both = (source.on(grid) | target.on(grid)).float()
    return F.max_pool2d(both[None, None], 2 * dilation + 1, stride=1, padding=dilation)[0, 0]
