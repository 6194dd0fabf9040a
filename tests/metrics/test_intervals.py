"""Intervals cover what they promise, and pairing uses what pairs share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.metrics import Interval, bootstrap, paired_difference, paired_ratio, share, t_interval

values = st.lists(st.floats(-100, 100), min_size=3, max_size=12)


def covered(interval, draw, truth: float, trials: int = 300) -> float:
    rng = np.random.default_rng(1)
    found = [interval(draw(rng)) for _ in range(trials)]
    return float(np.mean([f.low <= truth <= f.high for f in found]))


def test_t_intervals_cover_the_mean_nineteen_times_in_twenty() -> None:
    assert covered(t_interval, lambda rng: rng.normal(3, 2, 6), 3) == pytest.approx(0.95, abs=0.03)


def test_bootstrap_intervals_cover_the_median_of_skewed_values() -> None:
    assert covered(bootstrap, lambda rng: rng.exponential(1, 25), np.log(2), trials=150) == pytest.approx(
        0.94, abs=0.05
    )


def test_share_intervals_cover_the_rate() -> None:
    assert covered(share, lambda rng: list(rng.random(30) < 0.8), 0.8) == pytest.approx(0.95, abs=0.03)


@given(values)
def test_the_middle_lies_within(x: list[float]) -> None:
    for found in (t_interval(x), bootstrap(x)):
        assert found.low <= found.mid + 1e-9 and found.mid <= found.high + 1e-9
        assert found.n == len(x)


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_shares_stay_within_zero_and_one(kept: list[bool]) -> None:
    found = share(kept)
    assert 0 <= found.low <= found.mid <= found.high <= 1


def test_a_perfect_share_leaves_room_below() -> None:
    found = share([True] * 10)
    assert (found.mid, found.high) == (1, pytest.approx(1))
    assert 0.6 < found.low < 0.8


def test_pairing_finds_a_small_gain_that_spread_would_hide() -> None:
    rng = np.random.default_rng(0)
    scene = rng.normal(20, 6, 12)  # pictures differ far more than arms do
    a, b = scene + 0.5 + rng.normal(0, 0.1, 12), scene
    paired = paired_difference(a, b)
    assert 0.3 < paired.low < 0.5 < paired.high < 0.7
    apart = t_interval(a), t_interval(b)
    assert apart[0].low < apart[1].mid < apart[0].high


def test_ratios_ignore_a_machine_that_slows_down() -> None:
    drift = np.linspace(1, 3, 9)
    found = paired_ratio(2 * drift, drift)
    assert (found.low, found.mid, found.high) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize("found", [t_interval([4.0]), t_interval([3.0, 5.0]), bootstrap([4.0])])
def test_too_few_values_have_a_middle_and_no_interval(found: Interval) -> None:
    assert found.mid == 4 and np.isnan(found.low) and np.isnan(found.high)
    assert str(found) == "4"


def test_infinite_values_and_their_partners_are_left_out() -> None:
    assert t_interval([1.0, 3.0, float("inf")]).mid == 2
    assert paired_difference([5.0, float("inf")], [3.0, 1.0]).mid == 2


def test_the_same_values_give_the_same_interval() -> None:
    x = np.random.default_rng(3).random(9)
    assert bootstrap(x) == bootstrap(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: t_interval([]), "hold no finite number"),
        (lambda: share([]), "holds no value"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "a has 1 values and b 2"),
        (lambda: paired_ratio([1.0], [0.0]), "must be positive to divide by"),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
