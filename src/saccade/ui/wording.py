"""Figures as text."""

from math import isfinite

from saccade.metrics.intervals import Interval

NONE = "–"


def duration(seconds: float) -> str:
    """`812 ms`, `4.27 s`, `3 min 20 s`."""
    if seconds >= 100:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def spell(low: float, high: float) -> str:
    """Two durations, the unit once where it is one: `452–460 ms`."""
    first, second = duration(low), duration(high)
    number, _, unit = first.rpartition(" ")
    plain = second.count(" ") == 1 and " " not in number and second.endswith(f" {unit}")
    return f"{number}–{second}" if plain else f"{first} – {second}"


def memory(size: int | None) -> str:
    """`812 MB`, `4.3 GB`."""
    if size is None:
        return NONE
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def bounds(x: Interval | None, form: str) -> str:
    """`1.20–1.35`, nothing where there is no interval."""
    if x is None or not (isfinite(x.low) and isfinite(x.high)):
        return ""
    return f"{x.low:{form}}{_to(x.low, x.high)}{x.high:{form}}"


def middle(x: Interval | None, form: str, unit: str = "") -> str:
    """The middle value with its unit."""
    return NONE if x is None else f"{x.mid:{form}}{unit}"


def share(x: float | None) -> str:
    """A share as per cent."""
    return NONE if x is None or not isfinite(x) else f"{100 * x:.0f} %"


def percent(x: Interval | None) -> Interval | None:
    """An interval of shares in per cent."""
    return None if x is None else Interval(low=100 * x.low, mid=100 * x.mid, high=100 * x.high, n=x.n)


def plural(n: int, noun: str) -> str:
    """`1 prompt`, `3 prompts`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _to(low: float, high: float) -> str:
    return " to " if low < 0 or high < 0 else "–"
