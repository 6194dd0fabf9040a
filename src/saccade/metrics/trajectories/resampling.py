"""A path with another number of samples."""

import numpy as np
from jaxtyping import Float64

from saccade.core.scanpath import Points, check_points


def resampled(path: Points, length: int) -> Float64[np.ndarray, "t 2"]:
    """`length` points at even shares of the samples' order, between two of them on the straight line; ends are kept.

    Raises ValueError for points that `check_points` refuses, and a length below two.
    """
    points = check_points(path, "path", columns=(2,))
    if length < 2:
        raise ValueError(f"length={length} must be at least 2 points, both ends")
    at = np.linspace(0, len(points) - 1, length)
    return np.stack([np.interp(at, np.arange(len(points)), points[:, axis]) for axis in (0, 1)], axis=-1)
