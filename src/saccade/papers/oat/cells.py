"""A photograph without boxes of objects as a grid of cells, which stand in for objects: what each cell is like.

Of each cell: mean and deviation of red, green and blue; strength of edges; how far its mean colour is from that of the
picture and from that of the cells around it. Nothing is learned, and no object is known.
"""

import numpy as np
from jaxtyping import Float32, Int64

from saccade.core.scanpath import Points
from saccade.metrics.fidelity import Picture
from saccade.metrics.scanpaths import grid_cells
from saccade.metrics.scanpaths.points import Size

FEATURES = 13
PIXELS = 20  # a side of a cell, after averaging


def cell_features(picture: Picture, grid: tuple[int, int] = (6, 8)) -> Float32[np.ndarray, "p 13"]:
    """Of the cells of a (rows, columns) grid, row by row.

    Raises ValueError for a picture with fewer pixels than cells.
    """
    if min(size // cells for size, cells in zip(picture.shape[1:3], grid, strict=True)) < 1:
        raise ValueError(f"picture of shape {picture.shape} has fewer pixels than grid={grid} has cells")
    small = _averaged(picture[0].astype(np.float64), grid)  # (rows, pixels, columns, pixels, 3)
    mean, spread = small.mean((1, 3)), small.std((1, 3))
    whole = small.reshape(small.shape[0] * small.shape[1], -1, 3).mean(-1)
    slopes = np.hypot(*np.gradient(whole)).reshape(small.shape[:4]).mean((1, 3))
    found = (mean, spread, slopes[..., None], np.abs(mean - mean.mean((0, 1))), np.abs(mean - _around(mean)))
    return np.concatenate(found, axis=-1).reshape(-1, FEATURES).astype(np.float32)


def in_cells(cells: Int64[np.ndarray, " n"], size: Size, grid: tuple[int, int], rng: np.random.Generator) -> Points:
    """A random point (x, y) in each cell: a model of cells says no more of where gaze lands."""
    corner = np.stack((cells % grid[1], cells // grid[1]), axis=-1)
    return (corner + rng.random(corner.shape)) * size / np.array(grid[::-1])


def as_cells(points: Points, size: Size, grid: tuple[int, int]) -> Int64[np.ndarray, " n"]:
    """The cell that each fixation is in; those outside belong to the nearest."""
    return grid_cells(points, size, (grid[1], grid[0]))


def _averaged(picture: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Each cell cut to as many whole pixels as its neighbours, then averaged down to about `PIXELS` a side."""
    rows, columns = grid
    high, wide = (size // cells for size, cells in zip(picture.shape[:2], grid, strict=True))
    step = max(1, min(high, wide) // PIXELS)
    high, wide = high - high % step, wide - wide % step
    cells = [
        [
            picture[r * picture.shape[0] // rows :][:high, c * picture.shape[1] // columns :][:, :wide]
            for c in range(columns)
        ]
        for r in range(rows)
    ]
    stacked = np.array(cells).reshape(rows, columns, high // step, step, wide // step, step, 3).mean((3, 5))
    return stacked.transpose(0, 2, 1, 3, 4)


def _around(mean: np.ndarray) -> np.ndarray:
    """The mean colour of the up to eight cells around each."""
    from scipy.ndimage import uniform_filter

    total = uniform_filter(mean, 3, mode="constant", axes=(0, 1)) * 9 - mean
    count = uniform_filter(np.ones_like(mean), 3, mode="constant", axes=(0, 1)) * 9 - 1
    return total / np.maximum(count, 1)
