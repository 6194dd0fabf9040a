"""Summaries of samples: means, shares and paired differences with their intervals."""

import pytest

from saccade.experiments.summary import ends, interval, paired, summary
from saccade.metrics.intervals import share, t_interval

SAMPLES = [{"made": 1.0, "psnr": 30.0}, {"made": 0.0, "psnr": 32.0}, {"made": 1.0, "psnr": 37.0}]


def test_a_share_has_another_interval_than_a_mean() -> None:
    found = summary(SAMPLES, shares=("made",))
    assert found["psnr"] == ends(t_interval([30, 32, 37]))
    assert found["made"] == ends(share([True, False, True]))


def test_a_difference_is_taken_sample_by_sample() -> None:
    better = [{"psnr": row["psnr"] + gain} for row, gain in zip(SAMPLES, (1.0, 2.0, 3.0), strict=True)]
    low, mid, high = paired(better, SAMPLES, "psnr")
    assert mid == pytest.approx(2)
    assert 1 <= low < mid < high <= 3


def test_ends_are_read_as_they_were_written() -> None:
    found = t_interval([30, 32, 37])
    assert interval(ends(found), 3) == found
