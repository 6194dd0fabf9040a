"""What a handful of measurements can tell: a middle value and a 95 % interval.

Pictures of one prompt and seed, or runs made one after the other, belong together: their differences and ratios vary
far less than the values themselves, so arms are compared pair by pair.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000
FEWEST = 3  # the t interval of two values is nine times as wide as their distance

Values = Sequence[float]
Statistic = Callable[[np.ndarray], np.ndarray]  # over the last axis


@dataclass(frozen=True, kw_only=True)
class Interval:
    """`mid` of `n` values, and the 95 % interval `low` to `high`; both are nan where too few values tell none."""

    low: float
    mid: float
    high: float
    n: int

    def __str__(self) -> str:
        if not (isfinite(self.low) and isfinite(self.high)):
            return f"{self.mid:.3g}"
        return f"{self.mid:.3g} [{self.low:.3g}, {self.high:.3g}]"


def affine(found: Interval, scale: float = 1.0, offset: float = 0.0) -> Interval:
    """`scale` times the value, plus `offset`."""
    low, high = (scale * end + offset for end in (found.low, found.high))
    low, high = (high, low) if scale < 0 else (low, high)
    return Interval(low=low, mid=scale * found.mid + offset, high=high, n=found.n)


def t_interval(values: Values) -> Interval:
    """Mean and Student's t interval, for roughly normal values such as decibels over pictures; at least three."""
    x = _finite(values)
    mid, n = float(x.mean()), len(x)
    return error_interval(mid, float(x.std(ddof=1)) / sqrt(n) if n > 1 else nan, n)


def error_interval(mid: float, error: float, n: int) -> Interval:
    """Student's t interval of a mean of `n` values whose standard error is known."""
    from scipy.stats import t

    if n < FEWEST:
        return Interval(low=nan, mid=mid, high=nan, n=n)
    reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return Interval(low=mid - reach, mid=mid, high=mid + reach, n=n)


def bootstrap(values: Values, statistic: Statistic | None = None, *, seed: int = 0) -> Interval:
    """A statistic, the median by default, and its percentile interval over 2,000 resamplings."""
    x = _finite(values)
    measure = statistic or _median
    mid, n = float(measure(x)), len(x)
    if n < 2:
        return Interval(low=nan, mid=mid, high=nan, n=n)
    drawn = measure(x[np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))])
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(low=float(low), mid=mid, high=float(high), n=n)


def share(kept: Sequence[bool]) -> Interval:
    """Share of successes and Wilson's interval, which stays within [0, 1] and open at 0 and 1.

    Raises ValueError for no value.
    """
    from scipy.stats import norm

    n = len(kept)
    if n == 0:
        raise ValueError("kept=() holds no value; give at least one")
    p, z = sum(kept) / n, float(norm.ppf((1 + LEVEL) / 2))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(low=max(0.0, centre - reach), mid=p, high=min(1.0, centre + reach), n=n)


def paired_difference(a: Values, b: Values, *, seed: int = 0) -> Interval:
    """Mean of a - b over pairs, with its bootstrap interval; pairs with a value that is not finite are left out."""
    x, y = _pairs(a, b)
    return bootstrap(x - y, _mean, seed=seed)  # type: ignore[arg-type]


def paired_ratio(a: Values, b: Values, *, seed: int = 0) -> Interval:
    """Median of a / b over pairs, with its bootstrap interval.

    Raises ValueError where b is not positive.
    """
    x, y = _pairs(a, b)
    if not (y > 0).all():
        raise ValueError(f"b={list(b)} must be positive to divide by")
    return bootstrap(x / y, seed=seed)  # type: ignore[arg-type]


def _median(x: np.ndarray) -> np.ndarray:
    return np.median(x, axis=-1)


def _mean(x: np.ndarray) -> np.ndarray:
    return np.mean(x, axis=-1)


def _finite(values: Values) -> np.ndarray:
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    if not len(x):
        raise ValueError(f"values={list(values)} hold no finite number; give at least one")
    return x


def _pairs(a: Values, b: Values) -> tuple[np.ndarray, np.ndarray]:
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b {len(b)}; paired values must match one to one")
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    both = np.isfinite(x) & np.isfinite(y)
    return x[both], y[both]
