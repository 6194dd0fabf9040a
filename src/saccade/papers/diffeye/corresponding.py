"""Corresponding positional embedding (CPE): points and image tokens share one grid of positions, so that they meet.

    P[y, x]      of every pixel: the first half of the channels says y, the other x, in sines and cosines, base 10000
    points       P where each is, by the nearest pixel or between pixels; outside the picture, at its border
    tokens P'    P interpolated to the tokens' grid, bilinear, corners not aligned

P[y, x] . P[y', x'] depends on (y - y', x - x') alone and is greatest at 0, so a query that holds the one finds the key
that holds the other. Nothing is learned. Since each half of P depends on one coordinate, two tables are stored, never
the grid, and interpolating between pixels is interpolating in each.

For any attention from points to a picture: add `at(points)` to the queries' tokens and `tokens(grid)` to the keys'.
"""

from math import log
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.checks import check_word

Lookup = Literal["nearest", "bilinear"]
BASE = 10000.0


class CorrespondingPositions(nn.Module):
    """P of a picture of `pixels`, (height, width), in `width` channels; without parameters or stored state.

    Raises ValueError for a width that is no multiple of four, and for a picture without pixels.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, width: int, pixels: tuple[int, int] = (224, 224)) -> None:
        super().__init__()
        if width % 4 or width < 4:
            raise ValueError(f"width={width} must be a multiple of 4: sines and cosines of y and of x")
        if min(pixels) < 1:
            raise ValueError(f"pixels={pixels} must be (height, width), both at least 1")
        self.width, self.pixels = width, pixels
        for name, length in zip(("rows", "columns"), pixels, strict=True):
            self.register_buffer(name, waves(length, width // 2), persistent=False)

    def at(self, points: Float[Tensor, "b n 2"], lookup: Lookup = "nearest") -> Float[Tensor, "b n d"]:
        """P at points (x, y) in [-1, 1], borders of the picture; `bilinear` has a gradient in the points.

        Raises ValueError for points that are NaN, and another lookup.
        """
        check_word(get_args(Lookup), lookup=lookup)
        _check_numbers(points)
        find = _nearest if lookup == "nearest" else _between
        return torch.cat((find(self.rows, points[..., 1]), find(self.columns, points[..., 0])), dim=-1)

    def tokens(self, grid: tuple[int, int]) -> Float[Tensor, "n d"]:
        """P' of a grid of tokens, (rows, columns), row by row.

        Raises ValueError for more tokens than pixels, either way.
        """
        if any(cells > pixels for cells, pixels in zip(grid, self.pixels, strict=True)) or min(grid) < 1:
            raise ValueError(f"grid={grid} must be within pixels={self.pixels}: each token covers a pixel or more")
        rows, columns = (_resized(table, cells) for table, cells in zip((self.rows, self.columns), grid, strict=True))
        both = (rows[:, None].expand(*grid, -1), columns[None].expand(*grid, -1))
        return torch.cat(both, dim=-1).flatten(0, 1)


def waves(length: int, channels: int) -> Float[Tensor, "n c"]:
    """[sin | cos] of 0 .. length - 1 times rates from 1 down to nearly 1/10000."""
    half = channels // 2
    rates = torch.exp(-log(BASE) * torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=-1).float()


def _nearest(table: Float[Tensor, "l c"], at: Float[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
    """Of the pixel that the place is in."""
    cell = ((at + 1) / 2 * len(table)).floor()
    return table[cell.clamp(0, len(table) - 1).long()]


def _between(table: Float[Tensor, "l c"], at: Float[Tensor, "b n"]) -> Float[Tensor, "b n c"]:
    """Weighed between the two nearest pixels' middles."""
    place = ((at + 1) / 2 * len(table) - 0.5).clamp(0, len(table) - 1)
    low = place.detach().floor().clamp(max=max(len(table) - 2, 0)).long()
    share = (place - low)[..., None]
    return torch.lerp(table[low], table[(low + 1).clamp(max=len(table) - 1)], share.to(table.dtype))


def _resized(table: Float[Tensor, "l c"], cells: int) -> Float[Tensor, "k c"]:
    return F.interpolate(table.mT[None], size=cells, mode="linear", align_corners=False)[0].mT


def _check_numbers(points: Float[Tensor, "b n 2"]) -> None:
    if points.device.type == "cpu" and not torch.compiler.is_compiling() and points.isnan().any():
        row = int(points.isnan().flatten(1).any(1).nonzero()[0])
        raise ValueError(f"points of row {row} hold NaN; cut lost samples out of the data, or lower the learning rate")
