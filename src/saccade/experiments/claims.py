"""Claims as data: what is said, the difference that decides it, and the verdict its 95 % interval gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from saccade.experiments.results import Results
from saccade.metrics.intervals import Interval, t_interval

Verdict = Literal["confirmed", "refuted", "undecided"]
Measure = Callable[[Results], Interval]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """Something a paper, or its method, leads to expect.

    text     a sentence
    measure  from the results, what lies above zero if it holds
    digits   shown of it
    evidence   what a page shows beside the verdict, where the measure itself would tell little
    """

    text: str
    measure: Measure
    digits: int = 4
    evidence: Callable[[Results], str] | None = None

    def verdict(self, results: Results) -> Verdict:
        """What the results say of it."""
        return verdict(self.measure(results))


def verdict(found: Interval) -> Verdict:
    """What an interval says of the claim that its value is above zero."""
    return "confirmed" if found.low > 0 else "refuted" if found.high < 0 else "undecided"


def higher(text: str, column: str, arm: str, *, than: str, pair: str = "seed", digits: int = 4) -> Claim:
    """`table.column` is higher for one arm than for another, pair by pair."""
    return Claim(text=text, measure=lambda found: difference(found, column, arm, than, pair), digits=digits)


def above(text: str, column: str, bound: float, *, digits: int = 4, **where: str) -> Claim:
    """The mean of `table.column` is above a bound, seed by seed."""

    def measure(found: Results) -> Interval:
        return t_interval([value - bound for value in found.by(column, **where).values()])

    return Claim(text=text, measure=measure, digits=digits)


def margin(found: Interval, bound: float) -> Interval:
    """How far within -bound to bound a value lies: what decides whether a change is small."""
    nearest = 0.0 if found.low <= 0 <= found.high else min(abs(found.low), abs(found.high))
    farthest = max(abs(found.low), abs(found.high))
    return Interval(low=bound - farthest, mid=bound - abs(found.mid), high=bound - nearest, n=found.n)


def difference(found: Results, column: str, arm: str, other: str, pair: str = "seed") -> Interval:
    """How much higher `table.column` is for `arm` than for `other`, over the pairs that both have."""
    one, two = (found.by(column, pair, arm=name) for name in (arm, other))
    return t_interval([one[key] - two[key] for key in one if key in two])


def ratio(found: Results, column: str, arm: str, other: str, pair: str = "seed") -> Interval:
    """How many times `table.column` of `other` that of `arm` is, over the pairs that both have."""
    one, two = (found.by(column, pair, arm=name) for name in (arm, other))
    return t_interval([one[key] / two[key] for key in one if key in two])
