"""MultiMatch: two scanpaths as chains of saccade vectors, aligned, and compared in five ways; by `multimatch_gaze`.

vector      difference of two saccades, over twice the screen's diagonal
direction   of their angles, over pi          length      of their amplitudes, over the diagonal
position    of where they start, over it      duration    of the fixations there, over the longer

One minus the median over aligned pairs. Sources: Jarodzka et al. (2010); Dewhurst et al. (2012); Wagner et al. (2019).
"""

from dataclasses import dataclass
from math import nan
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from saccade.metrics.scanpaths.points import Points, Size, check_points, check_size

FEWEST = 3  # fixations


class MultiMatch(NamedTuple):
    """Similarities, 1 at identity."""

    vector: float
    direction: float
    length: float
    position: float
    duration: float


@dataclass(frozen=True, kw_only=True)
class Simplify:
    """Saccades are joined until none is left that is short or goes on in the direction of the one before.

    direction   degrees between two saccades, below which they are joined
    amplitude   pixels, below which a saccade is joined to the next
    duration    seconds; only around fixations shorter than this
    """

    direction: float = 45.0
    amplitude: float = 147.0
    duration: float = 0.3


def multimatch(a: Points, b: Points, size: Size, simplify: Simplify | None = None) -> MultiMatch:
    """All five similarities of scanpaths of (x, y) or (x, y, seconds); `size` is (width, height) in pixels.

    All are nan where a path has fewer than three fixations; duration is nan where there are no durations.
    Raises ValueError for points that `check_points` refuses, ImportError without `multimatch_gaze`.
    """
    check_size(size)
    x, y = check_points(a, "a"), check_points(b, "b")
    if min(len(x), len(y)) < FEWEST:
        return MultiMatch(nan, nan, nan, nan, nan)
    found = _compared(_record(x), _record(y), size, simplify)
    return found if x.shape[1] == y.shape[1] == 3 else found._replace(duration=nan)


def _compared(a: np.ndarray, b: np.ndarray, size: Size, simplify: Simplify | None) -> MultiMatch:
    library = _library()
    with np.errstate(divide="ignore", invalid="ignore"):  # saccades of length 0, fixations of no duration
        if simplify is None:
            return MultiMatch(*map(float, library.docomparison(a, b, size)))
        return _of_chains(library, _simplified(library, a, simplify), _simplified(library, b, simplify), size)


def _simplified(library: ModuleType, path: np.ndarray, by: Simplify) -> Any:
    """Both steps in turn until nothing changes; the library's own loop fails where a single short saccade is left."""
    found, before = library.gen_scanpath_structure(path), 0
    while len(found["sac"]["x"]) not in (1, before):
        before = len(found["sac"]["x"])
        found = _by_direction(found, by)
        found = found if len(found["sac"]["x"]) == 1 else library.simlen(found, by.amplitude, by.duration)
    return found


def _by_direction(path: Any, by: Simplify) -> Any:
    """The library's step, which takes the arc cosine of a number above 1 where saccades lie in one line."""
    starts, vectors = (
        np.column_stack([path["sac"][name] for name in names]) for names in (("x", "y"), ("lenx", "leny"))
    )
    durations, kept, i = path["fix"]["dur"], [], 0
    while i < len(vectors):
        pair = vectors[i : i + 2]
        joins = len(pair) == 2 and _angle(*pair) < by.direction and durations[i + 1] < by.duration
        kept.append((*starts[i], *(pair.sum(0) if joins else pair[0]), durations[i]))
        i += 2 if joins else 1
    x, y, lenx, leny, rested = (list(values) for values in zip(*kept, strict=True))
    rho, theta = np.hypot(lenx, leny).tolist(), np.arctan2(leny, lenx).tolist()
    saccades = {"x": x, "y": y, "lenx": lenx, "leny": leny, "rho": rho, "theta": theta}
    return {"sac": saccades, "fix": {"dur": [*rested, durations[-1]]}}


def _angle(a: np.ndarray, b: np.ndarray) -> float:
    """In degrees; nan where one has no length."""
    return float(np.degrees(np.arccos(np.clip(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)), -1, 1))))


def _of_chains(library: ModuleType, x: Any, y: Any, size: Size) -> MultiMatch:
    costs = library.cal_vectordifferences(x, y)
    numbers = np.arange(costs.size).reshape(costs.shape)
    graph = library.createdirectedgraph(costs.shape, costs, numbers)
    path, _ = library.dijkstra(*graph, 0, costs.size - 1)
    found = library.normaliseresults(library.getunnormalised(x, y, path, numbers), size)
    return MultiMatch(*(float(np.squeeze(value)) for value in found))


def _record(path: np.ndarray) -> np.ndarray:
    """As the library reads it; all fixations equally long where there are no durations."""
    timed = np.column_stack((path, np.ones(len(path))))[:, :3]
    return np.rec.fromarrays(timed.T, dtype=[(name, "f8") for name in ("start_x", "start_y", "duration")])


def _library() -> ModuleType:
    try:
        from multimatch_gaze import multimatch_gaze
    except ModuleNotFoundError as error:
        raise ImportError("multimatch needs multimatch-gaze: pip install 'saccade[gaze]'") from error
    return multimatch_gaze
