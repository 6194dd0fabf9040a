"""Mean and best over many paths, human consistency, and distributions of saccades and speeds."""

from math import isnan, pi

import numpy as np
import pytest

from saccade.core.scanpath import Scanpath
from saccade.metrics.trajectories import (
    consistency,
    discrete_frechet,
    divergences,
    dtw,
    jensen_shannon,
    matrix,
    mean_best,
    saccades,
    speeds,
    tde,
)

VALUES = np.array([[1.0, 5.0, 9.0], [4.0, 2.0, 6.0]])  # two generated, three human
SIZE = (100, 80)


def test_mean_and_best_in_both_directions() -> None:
    found = mean_best(VALUES)
    assert (found.mean, found.best, found.best_made) == (4.5, (1 + 2 + 6) / 3, (1 + 2) / 2)
    higher = mean_best(VALUES, higher=True)
    assert (higher.best, higher.best_made) == ((4 + 5 + 9) / 3, (9 + 6) / 2)
    one = mean_best(np.array([[1.0, np.nan], [3.0, 4.0]]))
    assert one.mean == pytest.approx(8 / 3) and one.best == 2.5


def test_a_path_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"values \(2, 2\) leave a path without any"):
        mean_best(np.array([[1.0, np.nan], [2.0, np.nan]]))
    with pytest.raises(ValueError, match=r"values \(0, 3\) leave"):
        mean_best(np.zeros((0, 3)))


@pytest.mark.parametrize("metric", [dtw, discrete_frechet, tde])
def test_a_matrix_is_the_metric_of_every_pair(metric: object) -> None:
    rng = np.random.default_rng(0)
    made, humans = ([rng.normal(size=(n, 2)) for n in lengths] for lengths in ((5, 4), (6, 3, 7)))
    wanted = [[metric(p, q) for q in humans] for p in made]  # type: ignore[operator]
    np.testing.assert_allclose(matrix(made, humans, metric), wanted, rtol=1e-12)  # type: ignore[arg-type]


def test_consistency_leaves_everybody_out_of_their_own() -> None:
    humans = [np.array([[float(at), 0.0]]) for at in (0, 1, 4)]
    found = consistency(humans, dtw)
    assert found.mean == pytest.approx((1 + 4 + 3) / 3)
    assert found.best == found.best_made == pytest.approx((1 + 1 + 3) / 3)
    with pytest.raises(ValueError, match="1 human path has nobody to agree with"):
        consistency(humans[:1], dtw)


def test_saccades_and_speeds() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]])
    amplitudes, directions = saccades(points)
    np.testing.assert_allclose(amplitudes, [5, 4])
    np.testing.assert_allclose(directions, [np.arctan2(4, 3), -pi / 2])
    np.testing.assert_allclose(speeds(points, 240), [1200, 960])


def test_divergence_is_zero_for_equal_one_for_disjoint_and_symmetric() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(50), rng.random(60) ** 2
    assert jensen_shannon(a, a, (0, 1)) == 0
    assert jensen_shannon(a / 4, 0.5 + a / 4, (0, 1)) == pytest.approx(1)
    assert jensen_shannon(a, b, (0, 1)) == pytest.approx(jensen_shannon(b, a, (0, 1)))
    assert jensen_shannon(np.array([0.0, 0.0]), np.array([0.0, 1.0]), (0, 1), 2) == pytest.approx(0.311278, abs=1e-6)
    assert jensen_shannon(a + 7, np.ones(3), (0, 1)) == 0  # beyond the range is the last bin
    assert isnan(jensen_shannon(a, a[:0], (0, 1)))
    with pytest.raises(ValueError, match=r"between=\(1, 1\) must rise"):
        jensen_shannon(a, a, (1, 1))


def test_scanpaths_are_compared_by_amplitude_direction_and_duration() -> None:
    right = Scanpath(points=np.array([[0.0, 0.0], [20.0, 0.0]]), durations=np.array([100.0, 300.0]))
    down = Scanpath(points=np.array([[0.0, 0.0], [0.0, 20.0]]), durations=np.array([300.0, 100.0]))
    assert divergences([right], [right], SIZE) == divergences([right, right], [right], SIZE)
    found = divergences([right], [down], SIZE)
    assert (found.amplitude, found.direction, found.duration) == (0, 1, 0)
    still = Scanpath(points=np.zeros((1, 2)), durations=np.ones(1))
    assert isnan(divergences([still], [down], SIZE).amplitude)
    with pytest.raises(ValueError, match="0 and 1 scanpaths: give at least one"):
        divergences([], [down], SIZE)
