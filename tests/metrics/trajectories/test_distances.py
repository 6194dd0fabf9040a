"""DTW, discrete Fréchet, time-delay embedding, recurrence: plain rewrites, hand-worked values, and their laws."""

import os
from math import e, isnan, sqrt
from operator import add
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import directed_hausdorff

from saccade.metrics.trajectories import align_all, discrete_frechet, dtw, recurrence, resampled, stde, tde
from tests.metrics.trajectories import plain

CLOSE = {"rtol": 1e-12, "atol": 1e-9}
A = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [6.0, 0.0]])
B = np.array([[0.0, 1.0], [3.0, 4.0], [6.0, 0.0]])


def path(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng([seed, n]).uniform(0, 500, (n, 2))


lengths = st.integers(1, 9)
seeds = st.integers(0, 100)


@given(seed=seeds, n=lengths, m=lengths)
def test_alignments_are_the_plain_rewrite(seed: int, n: int, m: int) -> None:
    p, q = path(seed, n), path(seed + 1, m)
    np.testing.assert_allclose(dtw(p, q), plain.aligned(p, q, add), **CLOSE)
    np.testing.assert_allclose(discrete_frechet(p, q), plain.aligned(p, q, max), **CLOSE)


@given(seed=seeds, n=st.integers(3, 9), m=st.integers(3, 9))
def test_embeddings_are_the_plain_rewrite(seed: int, n: int, m: int) -> None:
    p, q = path(seed, n), path(seed + 1, m)
    for window in ("sum", "fro"):
        values = plain.tde(p, q, 3, window)
        np.testing.assert_allclose(tde(p, q, window=window), np.mean(values), **CLOSE)
        np.testing.assert_allclose(tde(p, q, window=window, over="hausdorff"), max(values), **CLOSE)
    means = [np.mean(plain.tde(p / 500, q / 500, k, "sum")) for k in range(1, min(n, m) + 1)]
    np.testing.assert_allclose(stde(p, q, (500, 400)), np.mean(np.exp(-np.array(means))), **CLOSE)


def test_values_worked_by_hand() -> None:
    assert dtw(A, B) == 1 + 0 + 5 + 0  # the third point goes with (3, 4)
    assert discrete_frechet(A, B) == 5
    assert discrete_frechet(A, B[::-1]) == sqrt(36 + 1)  # the ends
    first = (1 + 0 + 8) / 3  # (0 0, 3 4, 6 8) against the only window of B
    second = (sqrt(9 + 9) + 5 + 0) / 3
    assert tde(A, B) == pytest.approx((first + second) / 2, abs=1e-12)
    assert tde(A, B, over="hausdorff") == pytest.approx(max(first, second), abs=1e-12)
    assert tde(B, A) == pytest.approx(min(first, second), abs=1e-12)
    assert tde(A[:3], B, window="fro") == pytest.approx(sqrt(1 + 0 + 64) / 3, abs=1e-12)
    one = np.array([[0.0, 0.0]])
    assert stde(one, one + [[3.0, 4.0]], (5, 2)) == pytest.approx(1 / e, abs=1e-12)


def test_recurrence_worked_by_hand() -> None:
    p = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [0.0, 0.0]])
    q = np.array([[9.0, 9.0], [0.0, 1.0], [10.0, 1.0], [0.0, 1.0], [7.0, 7.0]])  # p a sample late; the fifth is cut off
    found = recurrence(p, q, radius=2)
    assert found.rec == pytest.approx(100 * 2 * 3 / 12)  # (0, 1), (1, 2) and (0, 3)
    assert found.det == pytest.approx(100 * 2 / 3)  # (0, 1), (1, 2) are a run
    assert recurrence(p, q, radius=2, line=3).det == 0
    assert recurrence(p, p + 1000, radius=2).rec == 0 and isnan(recurrence(p, p + 1000, radius=2).det)
    same = np.zeros((5, 2))
    assert recurrence(same, same, radius=1).rec == 100
    assert recurrence(same, same, radius=1).det == pytest.approx(100 * 9 / 10)  # the corner is a run of one


@given(seed=seeds, n=st.integers(3, 9), m=st.integers(3, 9))
def test_laws(seed: int, n: int, m: int) -> None:
    p, q, by = path(seed, n), path(seed + 1, m), np.array([[31.0, -7.0]])
    for measure in (dtw, discrete_frechet, tde):
        assert measure(p, p) == 0
        np.testing.assert_allclose(measure(p + by, q + by), measure(p, q), **CLOSE)
    for measure in (dtw, discrete_frechet):
        np.testing.assert_allclose(measure(p, q), measure(q, p), **CLOSE)
    assert stde(p, p, (500, 500)) == 1 and 0 < stde(p, q, (500, 500)) < 1
    nearest = max(directed_hausdorff(p, q)[0], directed_hausdorff(q, p)[0])
    ends = max(np.linalg.norm(p[0] - q[0]), np.linalg.norm(p[-1] - q[-1]))
    assert max(ends, nearest) - 1e-9 <= discrete_frechet(p, q) <= dtw(p, q) + 1e-9


@given(seed=seeds, k=st.integers(1, 6))
def test_embedding_of_whole_paths_is_the_mean_distance_of_points(seed: int, k: int) -> None:
    p, q = path(seed, k), path(seed + 1, k)
    np.testing.assert_allclose(tde(p, q, k), np.linalg.norm(p - q, axis=1).mean(), **CLOSE)


def test_embedding_is_not_symmetric() -> None:
    assert tde(A, B) != tde(B, A)


@given(seed=seeds)
def test_many_pairs_at_once_are_the_pairs_one_by_one(seed: int) -> None:
    ps, qs = [path(seed, n) for n in (3, 9, 1)], [path(seed + 1, m) for m in (4, 2, 8, 7)]
    for kind, measure in (("dtw", dtw), ("frechet", discrete_frechet)):
        wanted = [[measure(p, q) for q in qs] for p in ps]
        np.testing.assert_allclose(align_all(ps, qs, kind), wanted, **CLOSE)
    assert align_all([], qs, "dtw").shape == (0, 4)


def test_many_pairs_are_worked_out_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    from saccade.metrics.trajectories import alignment

    ps = [path(seed, 6) for seed in range(4)]
    wanted = align_all(ps, ps, "dtw")
    monkeypatch.setattr(alignment, "CELLS", 100)
    np.testing.assert_array_equal(align_all(ps, ps, "dtw"), wanted)


@given(seed=seeds, n=st.integers(1, 40), m=st.integers(1, 40))
def test_fast_dtw_is_no_less_and_with_a_wide_radius_exact(seed: int, n: int, m: int) -> None:
    p, q = path(seed, n), path(seed + 1, m)
    exact = dtw(p, q)
    assert dtw(p, q, radius=1) >= exact - 1e-9
    np.testing.assert_allclose(dtw(p, q, radius=40), exact, **CLOSE)


def test_fast_dtw_of_smooth_paths_is_near() -> None:
    t = np.linspace(0, 6, 150)[:, None]
    p, q = np.hstack((100 * np.cos(t), 100 * np.sin(t))), np.hstack((100 * np.cos(t**1.05), 100 * np.sin(t**1.05)))
    assert dtw(p, q) <= dtw(p, q, radius=1) <= 1.05 * dtw(p, q)


@given(seed=seeds, n=st.integers(1, 9), length=st.integers(2, 20))
def test_resampling_keeps_ends_and_straight_lines(seed: int, n: int, length: int) -> None:
    p = path(seed, n)
    found = resampled(p, length)
    np.testing.assert_array_equal(found[[0, -1]], p[[0, -1]])
    line = np.linspace((0, 10), (30, -20), n)
    np.testing.assert_allclose(resampled(line, length), np.linspace(line[0], line[-1], length), atol=1e-9)
    np.testing.assert_allclose(resampled(p, n), p) if n > 1 else None


def test_paths_too_short_for_a_window_are_nan_and_warned_of() -> None:
    with pytest.warns(UserWarning, match=r"paths of \(2, 3\) points have no window of k=3; their distance is NaN"):
        assert isnan(tde(A[:2], B))


@pytest.mark.bad_input
def test_bad_input_is_named() -> None:
    lost = np.array([[1.0, 2.0], [np.nan, 2.0]])
    for measure in (dtw, discrete_frechet, tde):
        with pytest.raises(ValueError, match=r"path has no number in rows \[1\] of 2"):
            measure(lost, B)
        with pytest.raises(ValueError, match="reference is empty"):
            measure(B, B[:0])
        with pytest.raises(ValueError, match=r"path of shape \(4, 3\) must be \(n, 2\)"):
            measure(np.zeros((4, 3)), B)
    with pytest.raises(ValueError, match=r"reference_size=\(600, 800\) is not size=\(800, 600\); scale both"):
        stde(A, B, (800, 600), (600, 800))
    with pytest.raises(ValueError, match=r"size=\(0, 600\) must be positive"):
        stde(A, B, (0, 600))
    for change, message in (
        ({"k": 0}, "k=0 must be"),
        ({"window": "max"}, "window='max' is unknown; choose one of sum"),
    ):
        with pytest.raises(ValueError, match=message):
            tde(A, B, **change)
    with pytest.raises(ValueError, match="radius=0 must be positive"):
        recurrence(A, B, 0)
    with pytest.raises(ValueError, match="a path of 1 point has no pair"):
        recurrence(A, B[:1], 3)
    with pytest.raises(ValueError, match="radius=0 must be at least one point"):
        dtw(A, B, radius=0)
    with pytest.raises(ValueError, match="kind='dtv' is unknown"):
        align_all([A], [B], "dtv")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="length=1 must be at least 2"):
        resampled(A, 1)


@pytest.mark.skipif(not os.environ.get("SACCADE_DATA"), reason="SACCADE_DATA names no folder of data sets")
def test_laws_on_two_real_scanpaths() -> None:
    folder = Path(os.environ["SACCADE_DATA"]) / "multimatch"
    files = [folder / f"segment_0_sub-{who}.tsv" for who in ("19", "01")]
    if not all(file.is_file() for file in files):
        pytest.skip(f"SACCADE_DATA has no {files[0].name}")
    p, q = (np.loadtxt(file, skiprows=1)[:, :2] for file in files)
    assert dtw(p, q) == pytest.approx(plain.aligned(p, q, add)) == pytest.approx(dtw(q, p))
    assert discrete_frechet(p, q) == pytest.approx(plain.aligned(p, q, max))
    assert discrete_frechet(p, q) <= dtw(p, q)
    for window in ("sum", "fro"):
        assert tde(q, p, window=window) == pytest.approx(np.mean(plain.tde(q, p, 3, window)))
    assert tde(q, p, window="fro") < tde(q, p)
