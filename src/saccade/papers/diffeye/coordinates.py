"""Places in a picture by shares of its sides: -1 is its left or upper border, 1 its right or lower one.

A picture of w pixels spans x from 0 to w, so x becomes 2 x / w - 1, whatever size it is stretched to afterwards; width
and height each have their own factor.
"""

import numpy as np
from jaxtyping import Float, Shaped

from saccade.core.scanpath import Points, check_points

TOLERANCE = 0.05  # beyond the border, of half a side


def to_unit(points: Points, size: tuple[int, int], tolerance: float = TOLERANCE) -> Float[np.ndarray, "_ 2"]:
    """(x, y) in pixels of a picture of `size`, (width, height), as shares in [-1, 1].

    Raises ValueError for points that `check_points` refuses, and for one further outside than the tolerance.
    """
    found = 2 * check_points(points, columns=(2,)) / np.array(size) - 1
    far = np.abs(found).max(1)
    if far.max() > 1 + tolerance:
        at = int(far.argmax())
        raise ValueError(
            f"points[{at}]={points[at]} is outside size={size} by more than tolerance={tolerance} of half a side; "
            "give (x, y) in pixels and (width, height), or drop it"
        )
    return found


def to_pixels(unit: Shaped[np.ndarray, "... 2"], size: tuple[int, int]) -> Float[np.ndarray, "... 2"]:
    """The way back; what lies outside is moved to the border."""
    return (np.clip(np.asarray(unit, dtype=np.float64), -1, 1) + 1) / 2 * np.array(size)
