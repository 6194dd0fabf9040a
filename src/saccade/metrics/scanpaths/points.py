"""Fixations as points: (x, y) in pixels, x to the right, y downwards; those outside the picture; cells of a grid."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64

from saccade.core.scanpath import Points as Points
from saccade.core.scanpath import check_points as check_points

Size = tuple[int, int]


class Clipped(NamedTuple):
    """Points moved to the border of the picture where they lay outside, and how many did."""

    points: Float64[np.ndarray, "n d"]
    outside: int


def check_size(size: Size) -> None:
    """Raises ValueError for anything but two positive sides."""
    if len(size) != 2 or min(size) <= 0:
        raise ValueError(f"size={size} must be (width, height), both above 0")


def clipped(points: Points, size: Size) -> Clipped:
    """Points inside the picture, 0 <= x <= width and 0 <= y <= height; `size` is (width, height).

    Raises ValueError as `check_points` does, and where most points are outside `size` but none outside the same two
    sides turned round.
    """
    check_size(size)
    found = check_points(points)
    outside = _outside(found, size)
    if 2 * outside > len(found) and not _outside(found, (size[1], size[0])):
        raise ValueError(f"size={size} leaves {outside} of {len(found)} points outside; give (width, height)")
    return Clipped(np.column_stack((found[:, :2].clip(0, size), found[:, 2:])), outside)


def _outside(points: Points, size: Size) -> int:
    return int((((points[:, :2] < 0) | (points[:, :2] > np.array(size))).any(1)).sum())


def grid_cells(points: Points, size: Size, bins: Size = (12, 8)) -> Int64[np.ndarray, " n"]:
    """The cell of each point on a grid of bins = (columns, rows), counted row by row; the border belongs to the last.

    Raises ValueError as `clipped` does, and for a grid without cells.
    """
    check_bins(bins)
    inside = clipped(points, size).points[:, :2]
    column, row = np.minimum(np.floor(inside / size * bins), np.array(bins) - 1).T.astype(np.int64)
    return row * bins[0] + column


def check_bins(bins: Size) -> None:
    """Raises ValueError for a grid without cells."""
    if len(bins) != 2 or min(bins) < 1:
        raise ValueError(f"bins={bins} must be (columns, rows), both at least 1")
