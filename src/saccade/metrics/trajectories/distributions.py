"""What the eyes' movements are like, apart from where: distributions of saccades, durations and speeds compared.

Jensen-Shannon divergence of two histograms, in bits: 0 for equal ones, 1 for those that never overlap.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from saccade.core.scanpath import Points, Scanpath, check_points

BINS = 20
LONGEST_MS = 1000.0  # longer fixations are counted in the last bin

Values = Shaped[np.ndarray, "_"]


@dataclass(frozen=True, kw_only=True)
class Divergences:
    """Of saccade amplitudes and directions and of fixation durations; NaN where there is no saccade at all."""

    amplitude: float
    direction: float
    duration: float


def divergences(made: Sequence[Scanpath], humans: Sequence[Scanpath], size: tuple[int, int]) -> Divergences:
    """How unlike two sets of scanpaths are on pictures of `size`, (width, height).

    Raises ValueError for no scanpath.
    """
    if not made or not humans:
        raise ValueError(f"{len(made)} and {len(humans)} scanpaths: give at least one of either")
    (amplitudes, directions), (their, ways) = _pooled(made), _pooled(humans)
    durations, lasting = (np.concatenate([each.durations for each in paths]) for paths in (made, humans))
    return Divergences(
        amplitude=jensen_shannon(amplitudes, their, (0.0, float(np.hypot(*size)))),
        direction=jensen_shannon(directions, ways, (-np.pi, np.pi)),
        duration=jensen_shannon(durations, lasting, (0.0, LONGEST_MS)),
    )


def saccades(points: Points) -> tuple[Float64[np.ndarray, " s"], Float64[np.ndarray, " s"]]:
    """Amplitudes, in pixels, and directions, in radians from the right towards down, from each fixation to the next.

    Raises ValueError for points that `check_points` refuses.
    """
    steps = np.diff(check_points(points, columns=(2,)), axis=0)
    return np.hypot(*steps.T), np.arctan2(steps[:, 1], steps[:, 0])


def speeds(path: Points, rate: float = 1.0) -> Float64[np.ndarray, " s"]:
    """Of each sample to the next, in pixels a second, or a sample by default.

    Raises ValueError for points that `check_points` refuses.
    """
    return saccades(path)[0] * rate


def jensen_shannon(a: Values, b: Values, between: tuple[float, float], bins: int = BINS) -> float:
    """Of histograms of `bins` even bins; what is outside `between` counts in the outermost. NaN where one is empty.

    Raises ValueError for a range without extent.
    """
    low, high = between
    if not high > low or bins < 1:
        raise ValueError(f"between={between} must rise, and bins={bins} be at least 1")
    if not len(a) or not len(b):
        return float("nan")
    p, q = (np.histogram(np.clip(values, low, high), bins, between)[0] / len(values) for values in (a, b))
    middle = (p + q) / 2
    return float(_relative(p, middle) / 2 + _relative(q, middle) / 2)


def _relative(p: np.ndarray, q: np.ndarray) -> float:
    """Kullback-Leibler divergence in bits; 0 log 0 is 0."""
    some = p > 0
    return float((p[some] * np.log2(p[some] / q[some])).sum())


def _pooled(paths: Sequence[Scanpath]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [saccades(path.points) for path in paths]
    return np.concatenate([pair[0] for pair in pairs]), np.concatenate([pair[1] for pair in pairs])
