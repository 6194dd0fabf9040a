"""Summaries of samples that are too many to keep: means of their scores and paired differences, with 95 % intervals.

An interval stands in a row as [low, mid, high].
"""

from collections.abc import Collection, Sequence

from saccade.experiments.results import Row
from saccade.metrics.intervals import Interval, paired_difference, share, t_interval

Ends = list[float]


def summary(samples: Sequence[Row], shares: Collection[str] = ()) -> Row:
    """The mean of every score with its t interval; of `shares`, whose scores are 0 or 1, with Wilson's."""
    columns = {name: [row[name] for row in samples] for name in samples[0]}
    return {
        name: ends(share([value == 1 for value in values]) if name in shares else t_interval(values))
        for name, values in columns.items()
    }


def paired(samples: Sequence[Row], others: Sequence[Row], score: str) -> Ends:
    """How much higher a score is, sample by sample; the interval is a bootstrap's."""
    return ends(paired_difference(*([row[score] for row in rows] for rows in (samples, others))))


def ends(found: Interval) -> Ends:
    """As it stands in a row."""
    return [found.low, found.mid, found.high]


def interval(found: Ends, n: int) -> Interval:
    """As read from a row, of `n` samples."""
    low, mid, high = found
    return Interval(low=low, mid=mid, high=high, n=n)
