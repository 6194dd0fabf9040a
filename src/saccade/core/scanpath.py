"""A scanpath: where gaze rests, in what order and how long; and the check of points that all measures share.

Coordinates are (x, y) in pixels of the picture, x to the right and y downwards; durations are in milliseconds.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

Points = Shaped[np.ndarray, "_ _"]  # (n, 2): x, y and, where there is a third column, seconds
Durations = Shaped[np.ndarray, "_"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scanpath:
    """Fixations in the order they were made, at least one.

    points      (x, y) of each, in pixels
    durations   of each in milliseconds, at least 0
    Raises ValueError for no fixation, points that are no finite (x, y), and durations that are not one for each.
    """

    points: Points
    durations: Durations

    def __post_init__(self) -> None:
        check_points(self.points, columns=(2,))
        if self.durations.shape != (len(self.points),):
            raise ValueError(f"durations {self.durations.shape} must be one for each of {len(self.points)} fixations")
        if not (self.durations >= 0).all():  # NaN is not
            raise ValueError(f"durations={self.durations} must be milliseconds of at least 0")

    def __len__(self) -> int:
        return len(self.points)

    @property
    def timed(self) -> Float64[np.ndarray, "n 3"]:
        """x, y and seconds, as MultiMatch and ScanMatch take them."""
        return np.column_stack((self.points, self.durations / 1000)).astype(np.float64)


def check_points(points: Points, name: str = "points", columns: tuple[int, ...] = (2, 3)) -> Float64[np.ndarray, "n d"]:
    """The points as float64.

    Raises ValueError for another shape, for no point at all, and for values that are NaN or infinite.
    """
    found = np.asarray(points, dtype=np.float64)
    if found.ndim != 2 or found.shape[1] not in columns:
        wanted = " or ".join(f"(n, {count})" for count in columns)
        raise ValueError(f"{name} of shape {found.shape} must be {wanted}: x, y, and seconds if any")
    if not len(found):
        raise ValueError(f"{name} is empty; leave out trials without a fixation")
    bad = np.flatnonzero(~np.isfinite(found).all(1))
    if len(bad):
        raise ValueError(f"{name} has no number in rows {bad.tolist()[:5]} of {len(found)}; drop them first")
    return found
