"""What paths over pictures are worth beside those of people: distances, saliency, speeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from jaxtyping import Float

from saccade.core.scanpath import Points, Scanpath
from saccade.data.gaze import GazeSet
from saccade.metrics.scanpaths.maps import cc, nss, saliency_map
from saccade.metrics.trajectories import (
    discrete_frechet,
    dtw,
    jensen_shannon,
    matrix,
    mean_best,
    resampled,
    speeds,
    tde,
)

METRICS = {"dtw": dtw, "frechet": discrete_frechet, "tde": tde}
CELL = 10  # pixels of a saliency map's cell
BLUR = 24.0  # pixels, about a degree
SPEEDS = 24  # bins of log10 of the pixels a sample, 0.1 to 1000
RANGE = (-1.0, 3.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """Of one picture: paths that stand for one observer's consistency, those all arms are compared with, fixations."""

    own: Sequence[Points]
    others: Sequence[Points]
    fixations: Points


def people(gaze: GazeSet, own: int, length: int, rng: np.random.Generator) -> list[People]:
    """`own` observers of every picture, at random, and all others.

    Raises ValueError for a picture with too few to leave anybody.
    """
    found = list[People]()
    for name in gaze.names:
        paths = [resampled(path, length) for path in gaze.trajectories[name]]
        if len(paths) <= own:
            raise ValueError(f"{name} has {len(paths)} observers; own={own} leaves nobody to compare them with")
        order = rng.permutation(len(paths))
        mine, others = ([paths[i] for i in part] for part in (order[:own], order[own:]))
        found.append(People(own=mine, others=others, fixations=looked_at(gaze.scanpaths[name])))
    return found


def looked_at(scanpaths: Iterable[Scanpath]) -> Float[np.ndarray, "n 2"]:
    """Fixations of all of them, the first of each left out: it is where the experiment had them begin."""
    return np.concatenate([path.points[1:] for path in scanpaths])


def scores(paths: Sequence[Sequence[Points]], seen: Sequence[People], size: tuple[int, int]) -> dict[str, float]:
    """Means over pictures: every metric's mean and best, cc and nss of the map of all samples, unlikeness of speeds."""
    rows = [_of_picture(mine, each, size) for mine, each in zip(paths, seen, strict=True)]
    found = {name: fmean(row[name] for row in rows) for name in rows[0]}
    made, wanted = (log_speeds(each) for each in (paths, [each.others for each in seen]))
    return found | {"speeds": jensen_shannon(made, wanted, RANGE, SPEEDS)}


def log_speeds(paths: Iterable[Sequence[Points]]) -> Float[np.ndarray, " n"]:
    """log10 of every step's pixels; a step of none counts as the slowest."""
    found = np.concatenate([speeds(path) for each in paths for path in each])
    return np.log10(found.clip(10 ** RANGE[0]))


def speed_shares(paths: Iterable[Sequence[Points]]) -> list[tuple[float, float]]:
    """The middle of each bin of `log_speeds`, and the share of steps in it."""
    values = log_speeds(paths)
    counts, edges = np.histogram(values.clip(*RANGE), SPEEDS, RANGE)
    middles = (edges[1:] + edges[:-1]) / 2
    return [(float(at), float(count / len(values))) for at, count in zip(middles, counts, strict=True)]


def _of_picture(paths: Sequence[Points], seen: People, size: tuple[int, int]) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for name, metric in METRICS.items():
        values = mean_best(matrix(paths, seen.others, metric))
        found |= {name: values.mean, f"{name}_best": values.best}
    cells = (size[0] // CELL, size[1] // CELL)
    made, wanted = (
        saliency_map(points, size, BLUR / CELL, cells) for points in (np.concatenate(paths), seen.fixations)
    )
    return found | {"cc": cc(made, wanted), "nss": nss(made, seen.fixations, size)}
