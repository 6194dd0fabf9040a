"""Two paths aligned point by point: dynamic time warping and the discrete Fréchet distance.

    c(i, j) = d(i, j) + min(c(i-1, j), c(i, j-1), c(i-1, j-1))          DTW, the last cell
    c(i, j) = max(d(i, j), min(c(i-1, j), c(i, j-1), c(i-1, j-1)))      discrete Fréchet, the last cell

with d(i, j) = ||P_i - Q_j|| in pixels. The cells of an anti-diagonal do not need each other and are worked out at once,
and so are many pairs of paths. O(n m) time and memory.

Sources: Sakoe and Chiba (1978); Eiter and Mannila (1994); Salvador and Chan, "FastDTW" (2007).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from saccade.core.checks import check_word
from saccade.core.scanpath import Points, check_points

Kind = Literal["dtw", "frechet"]
Table = Float64[np.ndarray, "_ _"]
Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of a distance and of what the way so far costs
CELLS = 2**22  # of all tables that are worked out at once


def dtw(path: Points, reference: Points, radius: int | None = None) -> float:
    """Least sum of distances of a monotone alignment; exact, or by FastDTW if a radius is given, which is no less.

    radius   how far, in points, an alignment may leave the one of the paths at half their resolution
    Raises ValueError for points that `check_points` refuses, and for a radius below one.
    """
    if radius is None:
        return float(_last_cells([distances(path, reference)], np.add)[0])
    if radius < 1:
        raise ValueError(f"radius={radius} must be at least one point; give None for the exact value")
    p, q = (check_points(points, columns=(2,)) for points in (path, reference))
    return _fast(p, q, radius)[0]


def discrete_frechet(path: Points, reference: Points) -> float:
    """Least possible greatest distance of a monotone alignment, which is at least that of both ends.

    Raises ValueError for points that `check_points` refuses.
    """
    return float(_last_cells([distances(path, reference)], np.maximum)[0])


def align_all(paths: Sequence[Points], references: Sequence[Points], kind: Kind) -> Float64[np.ndarray, "g m"]:
    """`dtw` or `discrete_frechet` of every path with every reference, many pairs at once.

    Raises ValueError as they do, and for another kind.
    """
    check_word(get_args(Kind), kind=kind)
    combine: Combine = np.add if kind == "dtw" else np.maximum
    pairs = [(path, other) for path in paths for other in references]
    found = [_last_cells([distances(*pair) for pair in part], combine) for part in _parts(pairs)]
    return np.concatenate([*found, np.empty(0)]).reshape(len(paths), len(references))


def distances(path: Points, reference: Points) -> Table:
    """Of every point from every point of the reference.

    Raises ValueError for points that `check_points` refuses.
    """
    p, q = check_points(path, "path", columns=(2,)), check_points(reference, "reference", columns=(2,))
    return np.hypot(p[:, None, 0] - q[None, :, 0], p[:, None, 1] - q[None, :, 1])


def _parts(pairs: list[tuple[Points, Points]]) -> Iterator[list[tuple[Points, Points]]]:
    longest = [max((len(pair[side]) for pair in pairs), default=1) for side in (0, 1)]
    size = max(1, CELLS // (max(1, longest[0]) * sum(longest)))
    yield from (pairs[start : start + size] for start in range(0, len(pairs), size))


def _last_cells(tables: Sequence[Table], combine: Combine) -> Float64[np.ndarray, " b"]:
    cells = _skewed(tables)
    _accumulate_(cells, combine)
    return np.array([cells[n + m - 2, i, n - 1] for i, (n, m) in enumerate(table.shape for table in tables)])


def _skewed(tables: Sequence[Table]) -> Float64[np.ndarray, "s b n"]:
    """Anti-diagonals as rows: [i + j, table, i], infinite where a table has no cell."""
    rows, columns = (max(table.shape[axis] for table in tables) for axis in (0, 1))
    cells = np.full((rows + columns - 1, len(tables), rows), np.inf)
    for number, table in enumerate(tables):
        for i, row in enumerate(table):
            cells[i : i + len(row), number, i] = row
    return cells


def _accumulate_(cells: Float64[np.ndarray, "s b n"], combine: Combine) -> None:
    """Put c(i, j) in the place of d(i, j)."""
    for s in range(1, len(cells)):
        least = cells[s - 1].copy()  # c(i, j-1)
        np.minimum(least[:, 1:], cells[s - 1, :, :-1], out=least[:, 1:])  # c(i-1, j)
        if s > 1:
            np.minimum(least[:, 1:], cells[s - 2, :, :-1], out=least[:, 1:])  # c(i-1, j-1)
        cells[s] = combine(cells[s], least)


def _fast(path: Points, reference: Points, radius: int) -> tuple[float, list[tuple[int, int]]]:
    """FastDTW: the alignment at half the resolution, widened by the radius, is where the finer one is looked for."""
    apart = distances(path, reference)
    if min(apart.shape) >= radius + 2:
        _, coarse = _fast(_halved(path), _halved(reference), radius)
        apart = np.where(_widened(coarse, apart.shape, radius), apart, np.inf)
    cells = _skewed([apart])
    _accumulate_(cells, np.add)
    total = np.array([[cells[i + j, 0, i] for j in range(apart.shape[1])] for i in range(len(apart))])
    return float(total[-1, -1]), _way_back(total)


def _halved(points: Points) -> Points:
    even = points[: len(points) // 2 * 2]
    return (even[::2] + even[1::2]) / 2


def _widened(coarse: list[tuple[int, int]], shape: tuple[int, ...], radius: int) -> np.ndarray:
    """Cells of the finer table within the radius, in coarse cells, of the coarse alignment."""
    mask = np.zeros(shape, bool)
    for i, j in coarse:
        mask[max(0, 2 * (i - radius)) : 2 * (i + radius + 1), max(0, 2 * (j - radius)) : 2 * (j + radius + 1)] = True
    return mask


def _way_back(total: Table) -> list[tuple[int, int]]:
    i, j = total.shape[0] - 1, total.shape[1] - 1
    way = [(i, j)]
    while i or j:
        steps = [(i - 1, j), (i, j - 1), (i - 1, j - 1)]
        i, j = min((step for step in steps if min(step) >= 0), key=lambda step: total[step])
        way.append((i, j))
    return way
