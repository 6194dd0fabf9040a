"""Many paths over one picture against many others: the mean of all pairs, and the best of each.

mean        of all pairs
best        of each human path the nearest generated one, averaged over humans: is everybody's way among them?
best_made   of each generated path the nearest human one, averaged over the generated: is each like somebody's?

Human consistency, the bound for any generator, is the same with every human against all others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from saccade.core.scanpath import Points
from saccade.metrics.trajectories.alignment import align_all, discrete_frechet, dtw

Metric = Callable[[Points, Points], float]  # of a generated path and a human one


@dataclass(frozen=True, kw_only=True)
class MeanBest:
    """Means over a picture's paths, as the module's text defines them."""

    mean: float
    best: float
    best_made: float


def matrix(generated: Sequence[Points], humans: Sequence[Points], metric: Metric) -> Float64[np.ndarray, "g m"]:
    """The metric of every generated path with every human one; `dtw` and `discrete_frechet` many at once.

    Raises ValueError as the metric does.
    """
    if metric is dtw or metric is discrete_frechet:
        return align_all(generated, humans, "dtw" if metric is dtw else "frechet")
    found = [[metric(path, human) for human in humans] for path in generated]
    return np.array(found, dtype=np.float64).reshape(len(generated), len(humans))


def mean_best(values: Shaped[np.ndarray, "g m"], *, higher: bool = False) -> MeanBest:
    """Of the values of generated paths (rows) with human ones (columns); NaN are left out.

    higher   the metric is a similarity, whose best is the greatest
    Raises ValueError where a row or column has no value.
    """
    if not values.size or np.isnan(values).all(0).any() or np.isnan(values).all(1).any():
        raise ValueError(f"values {values.shape} leave a path without any; leave paths out that a metric refuses")
    pick = np.nanmax if higher else np.nanmin
    return MeanBest(
        mean=float(np.nanmean(values)),
        best=float(pick(values, axis=0).mean()),
        best_made=float(pick(values, axis=1).mean()),
    )


def consistency(humans: Sequence[Points], metric: Metric, *, higher: bool = False) -> MeanBest:
    """`mean_best` of every human path with all others, never with itself.

    Raises ValueError for fewer than two.
    """
    if len(humans) < 2:
        raise ValueError(f"{len(humans)} human path has nobody to agree with; give two or more")
    values = matrix(humans, humans, metric)
    np.fill_diagonal(values, np.nan)
    return mean_best(values, higher=higher)
