"""Fixations found where a path was made to rest, merging and dropping, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.metrics.trajectories import DispersionThreshold, NoFixationError, VelocityThreshold
from saccade.metrics.trajectories.fixations import smoothed_speeds

RATE = 200.0  # a sample is 5 ms
STOPS = np.array([[100.0, 100.0], [300.0, 120.0], [220.0, 260.0]])


def rests(stops: np.ndarray, samples: int = 40, jump: int = 4) -> np.ndarray:
    """Still at each stop, straight jumps between."""
    parts = [np.repeat(stops[:1], samples, axis=0)]
    for start, end in zip(stops, stops[1:], strict=False):
        parts += [np.linspace(start, end, jump + 2)[1:-1], np.repeat(end[None], samples, axis=0)]
    return np.concatenate(parts)


@pytest.mark.parametrize("detect", [
    VelocityThreshold(rate=RATE, pixels_per_degree=35, smooth=1),
    DispersionThreshold(rate=RATE, pixels_per_degree=35),
])  # fmt: skip
def test_stops_are_found_where_and_when_they_are(detect: VelocityThreshold | DispersionThreshold) -> None:
    found = detect(rests(STOPS))
    np.testing.assert_allclose(found.scanpath.points, STOPS, atol=1)
    np.testing.assert_allclose(found.onsets, [0, 220, 440], atol=10)
    np.testing.assert_allclose(found.scanpath.durations, 200, atol=10)


def test_without_geometry_the_threshold_is_three_median_speeds() -> None:
    path = rests(STOPS) + np.random.default_rng(0).normal(0, 0.5, (len(rests(STOPS)), 2))
    found = VelocityThreshold(rate=RATE)(path)
    np.testing.assert_allclose(found.scanpath.points, STOPS, atol=2)
    speed = smoothed_speeds(path, RATE)
    slow = VelocityThreshold(rate=RATE, pixels_per_degree=1, speed=3 * float(np.median(speed)), merge_degrees=0.1)(path)
    np.testing.assert_array_equal(found.onsets, slow.onsets)


def test_speeds_are_of_the_next_step_smoothed() -> None:
    path = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [3.0, 16.0]])
    np.testing.assert_allclose(smoothed_speeds(path, 10, 1), [50, 0, 120, 120])
    np.testing.assert_allclose(smoothed_speeds(path, 10, 3), [25, 170 / 3, 80, 120])
    np.testing.assert_array_equal(smoothed_speeds(path[:1], 10), [0])


def test_fixations_near_in_place_and_time_are_one() -> None:
    near = rests(np.array([[100.0, 100.0], [112.0, 100.0]]), jump=1)
    options = {"rate": RATE, "pixels_per_degree": 35, "smooth": 1}
    found = VelocityThreshold(**options)(near)
    assert len(found.scanpath) == 1 and found.scanpath.durations[0] == len(near) * 5
    assert found.scanpath.points[0, 0] == pytest.approx(106, abs=0.5)
    assert len(VelocityThreshold(**options, merge_degrees=0.2)(near).scanpath) == 2
    assert len(VelocityThreshold(**options, merge_ms=5)(near).scanpath) == 2


def test_short_rests_are_no_fixations() -> None:
    path = np.concatenate((rests(STOPS[:2])[:-30], rests(STOPS[1:])[40:]))  # 10 samples at the second stop
    found = VelocityThreshold(rate=RATE, pixels_per_degree=35, smooth=1, shortest_ms=60)(path)
    np.testing.assert_allclose(found.scanpath.points, STOPS[[0, 2]], atol=1)
    assert len(VelocityThreshold(rate=RATE, pixels_per_degree=35, smooth=1, shortest_ms=40)(path).scanpath) == 3


@given(seed=st.integers(0, 50))
def test_dispersion_stays_below_its_bound_and_cannot_go_on(seed: int) -> None:
    path = np.cumsum(np.random.default_rng(seed).normal(0, 3, (120, 2)), axis=0)
    detect = DispersionThreshold(rate=RATE, pixels_per_degree=1, degrees=25, shortest_ms=50)
    try:
        found = detect(path)
    except NoFixationError:
        return
    starts = np.rint(found.onsets / 5).astype(int)
    for start, duration in zip(starts, found.scanpath.durations, strict=True):
        end = start + round(duration / 5)
        assert np.ptp(path[start:end], axis=0).sum() <= 25 and duration >= 50
        assert end == len(path) or np.ptp(path[start : end + 1], axis=0).sum() > 25


def test_a_path_without_rest_has_no_scanpath() -> None:
    line = np.linspace((0, 0), (4000, 0), 100)
    with pytest.raises(NoFixationError, match="VelocityThreshold.* finds no fixation in 100 samples: no stretch is st"):
        VelocityThreshold(rate=RATE, pixels_per_degree=35)(line)
    with pytest.raises(NoFixationError, match="the longest stretch lasts 25 ms; choose other thresholds"):
        VelocityThreshold(rate=RATE, pixels_per_degree=35)(np.zeros((5, 2)))


@pytest.mark.bad_input
def test_bad_input_is_named() -> None:
    detect = VelocityThreshold(rate=RATE)
    with pytest.raises(ValueError, match=r"path has no number in rows \[0\]"):
        detect(np.array([[np.nan, 0.0], [1.0, 1.0]]))
    with pytest.raises(ValueError, match="path is empty"):
        detect(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="rate=0 must be positive"):
        VelocityThreshold(rate=0)
    with pytest.raises(ValueError, match="degrees=-1 must be positive"):
        DispersionThreshold(rate=RATE, pixels_per_degree=35, degrees=-1)
