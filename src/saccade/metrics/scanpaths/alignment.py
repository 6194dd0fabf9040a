"""Two strings aligned: the best sum over pairs that keep their order, and what is counted from it.

    F(i, j) = max(F(i-1, j-1) + similarity(i, j), F(i-1, j) + gap, F(i, j-1) + gap)

sequence_score   similarity 1 for equal symbols, gap 0, over the longer length: the longest common subsequence
levenshtein      insertions, deletions and exchanges, a raw count
scanmatch        similarity falls with the distance of two cells; over the best there could be

Sources: Needleman and Wunsch (1970); Levenshtein (1966); Cristino et al., "ScanMatch" (2010).
"""

from collections.abc import Sequence
from math import isfinite

import numpy as np
from jaxtyping import Float, Int64, Shaped

from saccade.metrics.scanpaths.points import Points, Size, check_bins, check_points, grid_cells

Symbols = Sequence[int] | Shaped[np.ndarray, " _"]


def alignment_score(similarity: Float[np.ndarray, "n m"], gap: float = 0.0) -> float:
    """The best sum over all alignments of n with m symbols; `gap` is added for each symbol left alone. O(n m)."""
    along = gap * np.arange(similarity.shape[1] + 1)
    row = along
    for similar in similarity:
        row = np.maximum(row + gap, np.append(-np.inf, row[:-1] + similar))
        row = np.maximum.accumulate(row - along) + along
    return float(row[-1])


def sequence_score(a: Symbols, b: Symbols) -> float:
    """Length of the longest common subsequence over the longer length; 1 for equal strings, 0 without a common symbol.

    Raises ValueError for an empty string.
    """
    x, y = _strings(a, b)
    return alignment_score(_equal(x, y)) / max(len(x), len(y))


def levenshtein(a: Symbols, b: Symbols) -> int:
    """Least number of symbols to insert, delete or exchange; not divided by a length.

    Raises ValueError for an empty string.
    """
    x, y = _strings(a, b)
    return round(-alignment_score(_equal(x, y) - 1, gap=-1.0))


def string_edit_distance(a: Points, b: Points, size: Size, cells: int = 5) -> int:
    """`levenshtein` of the cells that two scanpaths visit on a `cells` x `cells` grid (SED).

    Raises ValueError as `grid_cells` does.
    """
    return levenshtein(*(grid_cells(points, size, (cells, cells)) for points in (a, b)))


def scanmatch(
    a: Points,
    b: Points,
    size: Size,
    bins: Size = (12, 8),
    *,
    threshold: float = 3.5,
    gap: float = 0.0,
    temporal_bin: float | None = None,
) -> float:
    """Best sum of (threshold - distance of two cells) over threshold times the longer length; 1 at identity.

    size           (width, height) in pixels
    bins           (columns, rows) of the grid; distances are in cells
    threshold      distance at which a match is worth no more than a gap
    temporal_bin   in milliseconds, often 50: a cell is repeated by its duration in such bins; needs a third column
    Raises ValueError as `grid_cells` does, for a threshold of 0 or less, and where a temporal bin leaves no symbol.
    """
    if not (threshold > 0 and isfinite(threshold)):
        raise ValueError(f"threshold={threshold} must be a finite number above 0, in cells")
    x, y = (_timed_cells(points, size, bins, temporal_bin) for points in (a, b))
    places = np.array([(cell % bins[0], cell // bins[0]) for cell in range(bins[0] * bins[1])], dtype=np.float64)
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    return alignment_score(threshold - distance[np.ix_(x, y)], gap) / (threshold * max(len(x), len(y)))


def _timed_cells(points: Points, size: Size, bins: Size, temporal_bin: float | None) -> Int64[np.ndarray, " n"]:
    check_bins(bins)
    cells = grid_cells(points, size, bins)
    if temporal_bin is None:
        return cells
    seconds = check_points(points, columns=(3,))[:, 2]
    if not (temporal_bin > 0 and seconds.min() >= 0):
        raise ValueError(f"temporal_bin={temporal_bin} ms and durations from {seconds.min()} s on must be positive")
    found = np.repeat(cells, np.rint(1000 * seconds / temporal_bin).astype(np.int64))
    if not len(found):
        raise ValueError(f"temporal_bin={temporal_bin} ms leaves no symbol; the longest fixation is {seconds.max()} s")
    return found


def _strings(a: Symbols, b: Symbols) -> tuple[np.ndarray, np.ndarray]:
    for name, string in (("a", a), ("b", b)):
        if not len(string):
            raise ValueError(f"{name} is an empty string of symbols; leave out trials without a fixation")
    return np.asarray(a), np.asarray(b)


def _equal(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "n m"]:
    return (a[:, None] == b[None]).astype(np.float64)
