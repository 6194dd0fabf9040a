"""Places on a canvas, boxes and masks, as the tokens of its grid that they cover.

A token is made of cells, 2 x 2 of an autoencoder's in FLUX, and lies in a region where more than half of them do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Literal
from warnings import warn

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Unit = Literal["share", "pixel"]
Size = tuple[int, int]  # rows, columns


@dataclass(frozen=True, kw_only=True)
class Box:
    """From (x0, y0) to (x1, y1), x to the right and y down, as shares of the canvas, or in pixels of a canvas `of`.

    of  (height, width) of the canvas; without it the numbers are shares in [0, 1]
    Raises ValueError for a box without area, or one that reaches beyond its canvas.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    of: Size | None = None

    def __post_init__(self) -> None:
        height, width = self.of or (1, 1)
        if not (0 <= self.x0 < self.x1 <= width and 0 <= self.y0 < self.y1 <= height):
            unit = "as shares in [0, 1]" if self.of is None else f"on a canvas of {height} x {width} pixels"
            raise ValueError(f"box={self.corners} must be x0 < x1 and y0 < y1, {unit}")

    @classmethod
    def parse(cls, corners: Sequence[float], canvas: Size, unit: Unit | None = None) -> "Box":
        """From four plain numbers: shares where all lie in [0, 1], else pixels of the canvas (height, width).

        What reaches beyond the canvas, and pixels beside shares, are clipped with a warning.
        Raises ValueError for other than four numbers, a box without area, and whole numbers in [0, 1] without a unit.
        """
        values = tuple(corners)
        if len(values) != 4:
            raise ValueError(f"box={values} must be four numbers, x0, y0, x1, y1")
        small = all(0 <= value <= 1 for value in values)
        if unit is None and small and all(isinstance(value, int) for value in values):
            raise ValueError(f"box={values} may be shares or pixels; give unit='share' or unit='pixel'")
        shares = small if unit is None else unit == "share"
        _warn_of_doubt(values, canvas, shares, sure=unit is not None)
        across, down = (1, 1) if shares else (canvas[1], canvas[0])
        x0, y0, x1, y1 = (min(max(v, 0), most) for v, most in zip(values, (across, down) * 2, strict=True))
        return cls(x0=x0, y0=y0, x1=x1, y1=y1, of=None if shares else canvas)

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1."""
        return self.x0, self.y0, self.x1, self.y1

    def on_cells(self, size: Size) -> Float[Tensor, "y x"]:
        """1 on cells it covers, whose edges are rounded towards the upper left, and 0 elsewhere."""
        height, width = self.of or (1, 1)
        x0, x1 = (floor(x * size[1] / width) for x in (self.x0, self.x1))
        y0, y1 = (floor(y * size[0] / height) for y in (self.y0, self.y1))
        found = torch.zeros(size)
        found[y0:y1, x0:x1] = 1
        return found


Region = Box | Float[Tensor, "y x"] | Bool[Tensor, "y x"] | None  # None: the whole canvas


def on_tokens(region: Region, grid: Size, cells: int = 2) -> Bool[Tensor, "h w"]:
    """The tokens of a grid that lie in a region, each of `cells` x `cells` cells.

    A mask of any size, in [0, 1], is resized to the cells, bilinearly.
    """
    if region is None:
        return torch.ones(grid, dtype=torch.bool)
    size = grid[0] * cells, grid[1] * cells
    fine = region.on_cells(size) if isinstance(region, Box) else _resized(region.float().cpu(), size)
    return F.avg_pool2d(fine[None, None], cells)[0, 0] > 0.5


def _resized(mask: Float[Tensor, "a b"], size: Size) -> Float[Tensor, "y x"]:
    if tuple(mask.shape) == size:
        return mask
    return F.interpolate(mask[None, None], size, mode="bilinear", antialias=True, align_corners=False)[0, 0]


def _warn_of_doubt(values: tuple[float, ...], canvas: Size, shares: bool, *, sure: bool) -> None:
    height, width = (1, 1) if shares else canvas
    if min(values) < 0 or max(values[::2]) > width or max(values[1::2]) > height:
        warn(f"box={values} reaches beyond the canvas of {canvas} pixels; it is clipped", stacklevel=3)
    if not shares and not sure and any(0 < value < 1 for value in values):
        warn(f"box={values} mixes shares and pixels; it is read as pixels, so give unit= to be sure", stacklevel=3)
