"""Fixations as letters without a grid: clusters of where people looked, by mean shift; the sequence score on them.

The bandwidth is an estimate times a factor, the one for which people go from cluster to cluster most, within one least:
(transitions between clusters - transitions within) / clusters is greatest. Source: Yang et al. (2020), for OAT's score.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64

from saccade.core.scanpath import Points, check_points
from saccade.metrics.scanpaths.alignment import sequence_score

FACTORS = (0.2, 0.5, 0.8, 1.0, 1.2, 1.5, 1.8)
LONGEST = 16  # fixations that are compared


@dataclass(frozen=True, kw_only=True, eq=False)
class FixationClusters:
    """`bandwidth` in pixels; `score` what it was chosen by; `of(points)` the cluster of each fixation."""

    bandwidth: float
    score: float
    count: int
    model: Any = field(repr=False)

    def of(self, points: Points) -> Int64[np.ndarray, " n"]:
        """Raises ValueError as `check_points` does."""
        return self.model.predict(check_points(points)[:, :2]).astype(np.int64)


def fixation_clusters(people: Sequence[Points], factors: Sequence[float] = FACTORS) -> FixationClusters:
    """Of several people's fixations on one picture, (x, y) and seconds if any.

    Raises ValueError without anybody, for points that `check_points` refuses, and where all fixations are in one place;
    ImportError without scikit-learn.
    """
    if not people:
        raise ValueError("people is empty; give at least one scanpath")
    paths = [check_points(points, f"people[{i}]")[:, :2] for i, points in enumerate(people)]
    shift, estimate = _library()
    width = estimate(np.concatenate(paths))
    if not width > 0:
        raise ValueError("people hold fixations in one place only; there is nothing to part into clusters")
    return max((_clustered(shift, paths, factor * width) for factor in factors), key=lambda found: found.score)


def clustered_score(
    path: Points, people: Sequence[Points], clusters: FixationClusters, longest: int = LONGEST
) -> float:
    """`sequence_score` of a path with each person's, the first `longest` fixations of both, averaged over people.

    Raises ValueError as `FixationClusters.of` does.
    """
    mine = clusters.of(path)[:longest]
    return float(np.mean([sequence_score(mine, clusters.of(each)[:longest]) for each in people]))


def _clustered(shift: Any, paths: list[np.ndarray], bandwidth: float) -> FixationClusters:
    model = shift(bandwidth=bandwidth).fit(np.concatenate(paths))
    moves = [model.predict(path) for path in paths]
    between = sum(int((move[1:] != move[:-1]).sum()) for move in moves)
    count = len(model.cluster_centers_)
    total = sum(len(move) - 1 for move in moves)
    return FixationClusters(bandwidth=bandwidth, score=(2 * between - total) / count, count=count, model=model)


def _library() -> tuple[Any, Any]:
    try:
        from sklearn.cluster import MeanShift, estimate_bandwidth
    except ModuleNotFoundError as error:
        raise ImportError("fixation_clusters needs scikit-learn: pip install 'saccade[gaze]'") from error
    return MeanShift, estimate_bandwidth
