"""Where gaze rested, found in the samples of a path: by their speed (I-VT) or by how far they spread (I-DT).

I-VT   a sample is of a saccade where the smoothed speed is above a threshold; what is between saccades is a fixation
I-DT   a fixation is a longest stretch whose (max x - min x) + (max y - min y) stays below a threshold

A fixation is at the mean of its samples, and lasts from its first to its last, each sample being 1000 / rate ms long.

Source: Salvucci and Goldberg, "Identifying fixations and saccades in eye-tracking protocols" (2000).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from saccade.core.errors import SaccadeError
from saccade.core.scanpath import Points, Scanpath, check_points

Run = tuple[int, int]  # first sample, and the one after the last


class NoFixationError(SaccadeError, ValueError):
    """No stretch of a path is a fixation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detected:
    """The fixations of a path, and when each began, in milliseconds from the first sample on."""

    scanpath: Scanpath
    onsets: Float64[np.ndarray, " n"]


@dataclass(frozen=True, kw_only=True)
class VelocityThreshold:
    """I-VT. Raises ValueError for options that are not positive.

    rate                samples a second
    pixels_per_degree   of visual angle, of the picture as it was shown; None: unknown
    speed               degrees a second; above it is a saccade
    median_speeds       without pixels_per_degree, the threshold is so many median speeds of the path
    smooth              samples over which speed is averaged
    merge_degrees, merge_ms   fixations nearer in place and in time than both are one; only with pixels_per_degree
    shortest_ms         shorter ones are dropped
    """

    rate: float
    pixels_per_degree: float | None = None
    speed: float = 30.0
    median_speeds: float = 3.0
    smooth: int = 5
    merge_degrees: float = 0.5
    merge_ms: float = 75.0
    shortest_ms: float = 60.0

    def __post_init__(self) -> None:
        _check_positive(
            rate=self.rate, pixels_per_degree=self.pixels_per_degree, speed=self.speed, smooth=self.smooth
        )  # fmt: skip
        _check_positive(median_speeds=self.median_speeds)

    def __call__(self, path: Points) -> Detected:
        """Raises NoFixationError where none is found, ValueError for points that `check_points` refuses."""
        points = check_points(path, "path", columns=(2,))
        speed = smoothed_speeds(points, self.rate, self.smooth)
        runs = self._merged(points, _runs(speed <= self._threshold(speed)))
        return _detected(points, runs, self.rate, self.shortest_ms, str(self))

    def _threshold(self, speed: np.ndarray) -> float:
        """In pixels a second."""
        if self.pixels_per_degree is None:
            return self.median_speeds * float(np.median(speed))
        return self.speed * self.pixels_per_degree

    def _merged(self, points: Points, runs: Sequence[Run]) -> list[Run]:
        merged: list[Run] = []
        for run in runs:
            if merged and self._one(points, merged[-1], run):
                run = (merged.pop()[0], run[1])
            merged.append(run)
        return merged

    def _one(self, points: Points, before: Run, after: Run) -> bool:
        if self.pixels_per_degree is None:
            return False
        soon = (after[0] - before[1]) * 1000 / self.rate < self.merge_ms
        apart = np.linalg.norm(points[slice(*before)].mean(0) - points[slice(*after)].mean(0))
        return soon and bool(apart < self.merge_degrees * self.pixels_per_degree)


@dataclass(frozen=True, kw_only=True)
class DispersionThreshold:
    """I-DT. Raises ValueError for options that are not positive.

    rate                samples a second
    pixels_per_degree   of visual angle; 1 to give `degrees` in pixels
    degrees             how far a fixation may spread, width and height together
    shortest_ms         shorter stretches are no fixations
    """

    rate: float
    pixels_per_degree: float
    degrees: float = 1.0
    shortest_ms: float = 100.0

    def __post_init__(self) -> None:
        _check_positive(rate=self.rate, pixels_per_degree=self.pixels_per_degree, degrees=self.degrees)

    def __call__(self, path: Points) -> Detected:
        """Raises NoFixationError where none is found, ValueError for points that `check_points` refuses."""
        points = check_points(path, "path", columns=(2,))
        return _detected(points, self._stretches(points), self.rate, self.shortest_ms, str(self))

    def _stretches(self, points: Points) -> list[Run]:
        least, widest = max(1, int(np.ceil(self.shortest_ms * self.rate / 1000))), self.degrees * self.pixels_per_degree
        runs, start = list[Run](), 0
        while start + least <= len(points):
            reach = start + _steady(points[start:], widest)
            if reach - start < least:
                start += 1
                continue
            runs.append((start, reach))
            start = reach
        return runs


def smoothed_speeds(path: Points, rate: float, smooth: int = 5) -> Float64[np.ndarray, " n"]:
    """Of every sample, in pixels a second: of the step that leads on from it, averaged over `smooth` samples around.

    At the ends over those that there are; the last sample has the speed of the one before.
    """
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1) * rate
    steps = np.append(steps, steps[-1:] if len(steps) else [0.0])
    window = np.ones(smooth)
    return _centred(steps, window) / _centred(np.ones(len(steps)), window)


def _centred(values: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Sums around every value, over what there is of the window."""
    start = (len(window) - 1) // 2
    return np.convolve(values, window)[start : start + len(values)]


def _steady(points: Points, widest: float) -> int:
    """How many of the first points spread no further than `widest`."""
    spread = sum(
        np.maximum.accumulate(points[:, axis]) - np.minimum.accumulate(points[:, axis]) for axis in (0, 1)
    )  # fmt: skip
    return int(np.searchsorted(spread, widest, side="right"))


def _runs(resting: Shaped[np.ndarray, " n"]) -> list[Run]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], resting.astype(np.int8), [0]))))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _detected(points: Points, runs: Sequence[Run], rate: float, shortest_ms: float, by: str) -> Detected:
    lengths = [(end - start) * 1000 / rate for start, end in runs]
    kept = [run for run, ms in zip(runs, lengths, strict=True) if ms >= shortest_ms]
    if not kept:
        longest = f"the longest stretch lasts {max(lengths):.3g} ms" if lengths else "no stretch is still"
        raise NoFixationError(f"{by} finds no fixation in {len(points)} samples: {longest}; choose other thresholds")
    return Detected(
        scanpath=Scanpath(
            points=np.array([points[start:end].mean(0) for start, end in kept]),
            durations=np.array([(end - start) * 1000 / rate for start, end in kept]),
        ),
        onsets=np.array([start * 1000 / rate for start, _ in kept]),
    )


def _check_positive(**options: float | None) -> None:
    for name, value in options.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value} must be positive")
