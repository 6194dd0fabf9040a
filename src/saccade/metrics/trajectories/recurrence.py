"""Cross-recurrence: how often one path comes, later, near where the other was, and whether for longer stretches.

    C_ij = ||P_i - Q_j|| < radius        REC = 100 * 2 * sum_{i<j} C_ij / (N (N - 1))
    DET  = share of the recurrences i < j that stand in diagonal runs of at least two, in %

Both paths are cut to the shorter length N. Source: Anderson et al., "Recurrence quantification analysis" (2013).
"""

from dataclasses import dataclass
from math import nan

import numpy as np

from saccade.core.scanpath import Points
from saccade.metrics.trajectories.alignment import distances


@dataclass(frozen=True, kw_only=True)
class Recurrence:
    """In %: `rec` of all pairs i < j, `det` of the recurrent ones, NaN where there is none."""

    rec: float
    det: float


def recurrence(path: Points, reference: Points, radius: float, *, line: int = 2) -> Recurrence:
    """REC and DET of two paths.

    radius   in pixels; pairs nearer than it recur
    line     points of the shortest diagonal run that counts
    Raises ValueError for points that `check_points` refuses, a path of one point, a radius that is not positive and a
    line below two.
    """
    if not radius > 0 or line < 2:
        raise ValueError(f"radius={radius} must be positive, and line={line} at least 2 points")
    n = min(len(path), len(reference))
    near = distances(path[:n], reference[:n]) < radius
    if n < 2:
        raise ValueError("a path of 1 point has no pair i < j; give two or more points")
    diagonals = [np.diagonal(near, offset) for offset in range(1, n)]
    found = sum(int(each.sum()) for each in diagonals)
    in_lines = sum(_in_runs(each, line) for each in diagonals)
    return Recurrence(rec=200 * found / (n * (n - 1)), det=100 * in_lines / found if found else nan)


def _in_runs(diagonal: np.ndarray, line: int) -> int:
    """How many points of it stand in runs of at least `line`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], diagonal.astype(np.int8), [0]))))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= line].sum())
