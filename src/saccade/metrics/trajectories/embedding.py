"""Time-delay embedding: every stretch of k points of a path against the nearest such stretch of another.

    TDE_k  = mean over windows w of the path of min over windows v of the reference of d(w, v) / k, or the greatest
    STDE   = mean over k of exp(-TDE_k), coordinates being divided by the picture's longer side

d is the sum of the k distances of points (`sum`, FixaTons), or the Frobenius norm of their differences (`fro`, another
public code). Neither is symmetric: the first path is matched into the second.

Sources: Wang et al., "Simulating human saccadic scanpaths" (2011); Zanca et al., "FixaTons" (2018).
"""

import warnings
from collections.abc import Iterator
from math import nan
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from saccade.core.checks import check_word
from saccade.core.scanpath import Points
from saccade.metrics.trajectories.alignment import Table, distances

Window = Literal["sum", "fro"]
Over = Literal["mean", "hausdorff"]
WINDOW = 3  # points


def tde(path: Points, reference: Points, k: int = WINDOW, *, window: Window = "sum", over: Over = "mean") -> float:
    """How far windows of the path are from any of the reference, in pixels; NaN, with a warning, where k do not fit.

    Raises ValueError for points that `check_points` refuses, k below one, and another `window` or `over`.
    """
    check_word(get_args(Window), window=window)
    check_word(get_args(Over), over=over)
    if k < 1:
        raise ValueError(f"k={k} must be at least one point of a window")
    apart = distances(path, reference)
    if min(apart.shape) < k:
        warnings.warn(f"paths of {apart.shape} points have no window of k={k}; their distance is NaN", stacklevel=2)
        return nan
    nearest = _windows(apart, k, window).min(1) / k
    return float(nearest.mean() if over == "mean" else nearest.max())


def stde(
    path: Points, reference: Points, size: tuple[int, int], reference_size: tuple[int, int] | None = None
) -> float:
    """Similarity in (0, 1], 1 for equal paths, over windows of all lengths that fit; `size` is (width, height).

    Raises ValueError for points that `check_points` refuses, a size that is not positive, and a reference on a
    picture of another size.
    """
    if reference_size is not None and tuple(reference_size) != tuple(size):
        raise ValueError(f"reference_size={reference_size} is not size={size}; scale both paths to one picture first")
    if min(size) <= 0:
        raise ValueError(f"size={size} must be positive, width and height in pixels")
    apart = distances(path, reference) / max(size)
    return float(np.mean([np.exp(-sums.min(1).mean() / k) for k, sums in _all_windows(apart)]))


def _windows(apart: Table, k: int, window: Window) -> Float64[np.ndarray, "w v"]:
    """Distances of windows that begin at (i, j)."""
    n, m = (length - k + 1 for length in apart.shape)
    values = apart if window == "sum" else apart**2
    total = np.sum([values[step : step + n, step : step + m] for step in range(k)], axis=0)
    return total if window == "sum" else np.sqrt(total)


def _all_windows(apart: Table) -> Iterator[tuple[int, np.ndarray]]:
    """Sums of distances of windows, for every length that fits."""
    sums = apart
    for k in range(1, min(apart.shape) + 1):
        yield k, sums
        sums = sums[:-1, :-1] + apart[k:, k:]
