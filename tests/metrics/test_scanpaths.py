"""Scanpath metrics: laws of each, agreement with the released code's numbers, and what is refused."""

import os
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from scipy.stats import pearsonr
from sklearn.metrics import roc_auc_score

from saccade.metrics.scanpaths import (
    Behaviour,
    Simplify,
    alignment_score,
    auc_judd,
    behaviour,
    behaviour_delta,
    cc,
    clipped,
    clustered_score,
    fixation_clusters,
    fixation_map,
    grid_cells,
    kl,
    levenshtein,
    mean_behaviour,
    multimatch,
    next_sim,
    nss,
    saliency_map,
    scanmatch,
    sequence_score,
    sim,
    string_edit_distance,
)

GOLDEN = load_file(Path(__file__).parents[1] / "goldens" / "oat" / "case_positions_and_metrics.safetensors")
SCREEN = (1280, 720)
strings = st.lists(st.integers(0, 5), min_size=1, max_size=9)


@st.composite
def paths(draw: st.DrawFn, least: int = 3) -> np.ndarray:
    """Fixations on the screen, with durations."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return scanpath(rng, draw(st.integers(least, 10)))


def scanpath(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.column_stack((rng.uniform(0, SCREEN, (n, 2)), rng.uniform(0.05, 0.6, n)))


def cells(string: np.ndarray) -> np.ndarray:
    return np.stack((string % 9, string // 9), axis=-1)


def recursive(similarity: np.ndarray, gap: float) -> float:
    """The definition, cell by cell."""
    n, m = similarity.shape
    best = np.zeros((n + 1, m + 1))
    for i, j in product(range(n + 1), range(m + 1)):
        options = [best[i - 1, j - 1] + similarity[i - 1, j - 1]] if i and j else []
        options += [best[i - 1, j] + gap] if i else []
        options += [best[i, j - 1] + gap] if j else []
        best[i, j] = max(options, default=0.0)
    return float(best[n, m])


@pytest.mark.parametrize("pair", [0, 1])
def test_strings_and_chains_agree_with_the_released_code(pair: int) -> None:
    a, b = (GOLDEN[f"pair{pair}_{name}"] for name in "ab")
    assert sequence_score(a, b) == pytest.approx(float(GOLDEN[f"pair{pair}_nw"]), abs=1e-6)
    assert levenshtein(a, b) == GOLDEN[f"pair{pair}_levenshtein"]
    found = multimatch(cells(a), cells(b), (9, 3))
    np.testing.assert_allclose(found[:4], GOLDEN[f"pair{pair}_multimatch_grid9x3"], atol=1e-6)
    assert np.isnan(found.duration)


def test_multimatch_of_pixels_agrees_with_the_released_code() -> None:
    found = multimatch(GOLDEN["pix0_a"], GOLDEN["pix0_b"], SCREEN)
    np.testing.assert_allclose(found, GOLDEN["pix0_multimatch"], atol=1e-6)


def test_behaviour_and_correlation_agree_with_the_released_code() -> None:
    found = behaviour(GOLDEN["behavior0_sequence"], target=4)
    np.testing.assert_allclose(found, GOLDEN["behavior0_correct_len_search_refix_revisit"], atol=1e-6)
    assert cc(GOLDEN["map1"], GOLDEN["map2"]) == pytest.approx(float(GOLDEN["cc"]), abs=1e-6)


@given(strings, strings, st.sampled_from([0.0, -0.5, -1.0]))
def test_an_alignment_is_the_best_of_the_definition(a: list[int], b: list[int], gap: float) -> None:
    similarity = np.cos(np.add.outer(np.array(a) * 1.7, np.array(b) * 0.9))
    assert alignment_score(similarity, gap) == pytest.approx(recursive(similarity, gap))


@given(strings, strings)
def test_strings_are_compared_symmetrically_and_identity_is_best(a: list[int], b: list[int]) -> None:
    assert sequence_score(a, a) == 1 and levenshtein(a, a) == 0
    assert sequence_score(a, b) == sequence_score(b, a) and levenshtein(a, b) == levenshtein(b, a)
    assert 0 <= sequence_score(a, b) <= 1 and levenshtein(a, b) <= max(len(a), len(b))
    assert sequence_score(a, [symbol + 6 for symbol in b]) == 0
    assert levenshtein(a, [symbol + 6 for symbol in b]) == max(len(a), len(b))


@given(strings, strings, strings)
def test_levenshtein_is_a_distance(a: list[int], b: list[int], c: list[int]) -> None:
    assert levenshtein(a, c) <= levenshtein(a, b) + levenshtein(b, c)


@given(paths(), paths(), st.sampled_from([None, 50.0]))
def test_scanmatch_is_symmetric_and_one_at_identity(a: np.ndarray, b: np.ndarray, temporal_bin: float | None) -> None:
    score: Callable[..., float] = scanmatch
    assert score(a, a, SCREEN, temporal_bin=temporal_bin) == pytest.approx(1)
    found = score(a, b, SCREEN, temporal_bin=temporal_bin)
    assert found == pytest.approx(score(b, a, SCREEN, temporal_bin=temporal_bin)) and found <= 1


def test_scanmatch_counts_distances_in_cells_and_repeats_by_duration() -> None:
    """Cells 0 and 3 of one row: 3.5 - 3 for the pair, over 3.5 times the longer string."""
    a, b = np.array([[10.0, 10.0, 0.12]]), np.array([[350.0, 10.0, 0.05]])
    assert scanmatch(a, b, SCREEN) == pytest.approx(0.5 / 3.5)
    assert scanmatch(a, b, SCREEN, temporal_bin=50) == pytest.approx(0.5 / (3.5 * 2))


@given(paths(), paths())
def test_multimatch_is_symmetric_and_one_at_identity(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(multimatch(a, a, SCREEN), 1)
    np.testing.assert_allclose(multimatch(a, b, SCREEN), multimatch(b, a, SCREEN))


@given(paths(), paths())
def test_simplified_paths_are_compared_likewise(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(multimatch(a, a, SCREEN, Simplify()), 1)
    found = np.array(multimatch(a, b, SCREEN, Simplify()))
    assert ((0 <= found) & (found <= 1)).all()
    unchanged = multimatch(a, b, SCREEN, Simplify(direction=0, amplitude=0, duration=0))
    np.testing.assert_allclose(unchanged, multimatch(a, b, SCREEN))


def test_simplification_is_the_library_s_own_where_that_can_do_it() -> None:
    from multimatch_gaze import docomparison

    rng, names = np.random.default_rng(0), "start_x,start_y,duration"
    for _ in range(5):
        a, b = scanpath(rng, 12), scanpath(rng, 15)
        wanted = docomparison(*(np.rec.fromarrays(x.T, names=names) for x in (a, b)), SCREEN, True, 45.0, 0.3, 147.0)
        np.testing.assert_allclose(multimatch(a, b, SCREEN, Simplify()), wanted)


def test_saccades_in_one_line_and_of_no_length_are_simplified() -> None:
    """The library takes the arc cosine of a number above 1 here."""
    line = np.array([[0, 0, 0.1], [59, 33, 0.1], [177, 99, 0.1], [177, 99, 0.1], [1000, 500, 0.1]])
    other = scanpath(np.random.default_rng(0), 6)
    for a, b in ((line, other), (other, line), (line, line)):
        found = np.array(multimatch(a, b, SCREEN, Simplify()))
        assert ((0 <= found) & (found <= 1)).all()


@pytest.mark.parametrize("n", [1, 2])
def test_multimatch_of_fewer_than_three_fixations_is_nan(n: int) -> None:
    path = scanpath(np.random.default_rng(0), 5)
    assert np.isnan(multimatch(path[:n], path, SCREEN)).all() and np.isnan(multimatch(path, path[:n], SCREEN)).all()


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "multimatch_gaze", None)
    path = scanpath(np.random.default_rng(0), 5)
    with pytest.raises(ImportError, match=r"pip install 'saccade\[gaze\]'"):
        multimatch(path, path, SCREEN)


def test_behaviour_counts_runs() -> None:
    assert behaviour([0, 0, 1, 0, 4], target=4) == Behaviour(1, 5, 3 / 5, 1 / 5, 1 / 5)
    assert behaviour([2, 2], target=1) == Behaviour(0, 2, 1 / 2, 1 / 2, 0)


@given(strings)
def test_the_shares_of_behaviour_sum_to_one(objects: list[int]) -> None:
    found = behaviour(objects, target=0)
    assert found.search + found.refix + found.revisit == pytest.approx(1)


def test_delta_is_the_mean_relative_difference() -> None:
    human = Behaviour(0.8, 10, 0.5, 0.3, 0.2)
    assert behaviour_delta(human, human) == 0
    assert behaviour_delta(human._replace(length=15), human) == pytest.approx(0.1)
    assert behaviour_delta(human, human._replace(revisit=0)) == np.inf
    assert mean_behaviour([human, human._replace(length=20)]).length == 15


def test_points_are_x_and_y_and_the_border_belongs_to_the_last_cell() -> None:
    points = np.array([[0, 0], [1279, 0], [1280, 720], [640, 719], [0, 720]])
    assert grid_cells(points, SCREEN, (12, 8)).tolist() == [0, 11, 95, 90, 84]
    assert fixation_map(np.array([[1000, 10]]), SCREEN, (4, 2)).tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


def test_fixations_outside_are_moved_to_the_border_and_counted() -> None:
    points = np.array([[-5.0, 10.0], [10.0, 10.0], [20.0, 900.0]])
    found = clipped(points, SCREEN)
    assert found.outside == 2 and found.points.tolist() == [[0, 10], [10, 10], [20, 720]]
    assert grid_cells(points, SCREEN, (4, 4)).tolist() == [0, 0, 12]


def test_a_size_turned_round_is_noticed() -> None:
    points = np.array([[1000.0, 100.0], [900.0, 300.0]])
    with pytest.raises(ValueError, match=r"size=\(720, 1280\) leaves 2 of 2 points outside; give \(width, height\)"):
        grid_cells(points, (720, 1280))


def test_string_edit_distance_is_levenshtein_on_a_square_grid() -> None:
    a, b = (scanpath(np.random.default_rng(seed), 9) for seed in (0, 1))
    wanted = levenshtein(grid_cells(a, SCREEN, (5, 5)), grid_cells(b, SCREEN, (5, 5)))
    assert string_edit_distance(a, b, SCREEN) == wanted > 0
    assert string_edit_distance(a, a, SCREEN, cells=10) == 0


def test_nss_is_the_scaled_map_at_the_fixations() -> None:
    saliency, points = np.random.default_rng(0).random((8, 12)), np.array([[0.0, 0.0], [1279.0, 719.0]])
    scaled = (saliency - saliency.mean()) / saliency.std()
    assert nss(saliency, points, SCREEN) == pytest.approx((scaled[0, 0] + scaled[-1, -1]) / 2)
    assert nss(np.ones((8, 12)), points, SCREEN) == 0


@given(st.integers(0, 2**32), st.integers(2, 99))
def test_auc_judd_is_the_area_over_thresholds_at_fixated_values(seed: int, levels: int) -> None:
    """With ties between levels, and several fixations in one cell; it is no less than the area over all thresholds."""
    rng = np.random.default_rng(seed)
    saliency, points = rng.integers(0, levels, (6, 9)) / levels, scanpath(rng, 12)
    fixated = np.isin(np.arange(54), grid_cells(points, SCREEN, (9, 6))).reshape(6, 9)
    curve = [(0.0, 0.0)]
    for value in sorted(set(saliency[fixated].tolist()), reverse=True):
        above = saliency >= value
        curve.append((float(above[~fixated].mean()), float(above[fixated].mean())))
    x, y = np.array([*curve, (1.0, 1.0)]).T
    found = auc_judd(saliency, points, SCREEN)
    assert found == pytest.approx(((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum())
    assert found >= roc_auc_score(fixated.ravel(), saliency.ravel()) - 1e-12


def test_maps_are_compared_by_their_definitions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((5, 7)), rng.random((5, 7))
    p, q = a / a.sum(), b / b.sum()
    assert cc(a, b) == pytest.approx(pearsonr(a.ravel(), b.ravel())[0]) and cc(a, np.ones_like(a)) == 0
    assert kl(a, b) == pytest.approx((q * np.log(q / p)).sum(), abs=1e-9) and kl(a, a) == pytest.approx(0, abs=1e-9)
    assert sim(a, b) == pytest.approx(np.minimum(p, q).sum()) and sim(a, 3 * a) == pytest.approx(1)


def test_a_saliency_map_sums_to_one_and_peaks_at_the_fixation() -> None:
    found = saliency_map(np.array([[640.0, 360.0]]), SCREEN, sigma=1.5, cells=(16, 9))
    assert found.shape == (9, 16) and found.sum() == pytest.approx(1)
    assert np.unravel_index(found.argmax(), found.shape) == (4, 8)


def test_sim_of_the_next_object_is_its_probability_averaged_over_steps() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1]])
    assert next_sim(probabilities, np.array([1, 2])) == pytest.approx(0.3)
    onehot = np.eye(3)[[1, 2]]
    assert next_sim(probabilities, np.array([1, 2])) == pytest.approx(np.minimum(probabilities, onehot).sum(1).mean())


def visits(rng: np.random.Generator, order: list[int]) -> np.ndarray:
    """Fixations close to three places far apart."""
    places = np.array([[100.0, 100.0], [1100.0, 150.0], [600.0, 600.0]])
    return places[order] + rng.normal(0, 8, (len(order), 2))


def test_clusters_are_the_places_people_looked_at() -> None:
    rng = np.random.default_rng(0)
    orders = [0, 1, 2, 0, 1], [2, 1, 0, 2, 1], [0, 2, 1, 1, 0]
    people = [visits(rng, order) for order in orders]
    found = fixation_clusters(people)
    assert found.count == 3 and found.score == (11 - 1) / 3  # eleven moves between clusters, one within
    strings = [found.of(path).tolist() for path in people]
    named = {place: strings[0][orders[0].index(place)] for place in range(3)}
    assert strings == [[named[place] for place in order] for order in orders] and len(set(named.values())) == 3
    wanted = np.mean([sequence_score(strings[0], each) for each in strings])
    assert clustered_score(people[0], people, found) == pytest.approx(wanted)
    assert clustered_score(np.tile(people[0], (5, 1)), [np.tile(people[0], (4, 1))], found) == 1  # 16 of each


def test_clusters_need_fixations_in_several_places() -> None:
    with pytest.raises(ValueError, match="people is empty"):
        fixation_clusters([])
    with pytest.raises(ValueError, match="fixations in one place only"):
        fixation_clusters([np.ones((4, 2))])


POINTS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
BAD = {
    "points is empty": lambda: grid_cells(np.empty((0, 2)), SCREEN),
    r"points has no number in rows \[0, 1, 2\] of 3": lambda: grid_cells(np.full((3, 2), np.nan), SCREEN),
    r"a has no number in rows \[1\] of 3": lambda: multimatch(np.array([[0, 0], [np.nan, 1], [2, 2]]), POINTS, SCREEN),
    r"points of shape \(3,\) must be \(n, 2\) or \(n, 3\)": lambda: clipped(np.ones(3), SCREEN),
    r"size=\(0, 3\) must be \(width, height\)": lambda: grid_cells(POINTS, (0, 3)),
    r"bins=\(0, 8\) must be \(columns, rows\)": lambda: grid_cells(POINTS, SCREEN, (0, 8)),
    "b is an empty string of symbols": lambda: levenshtein([1], []),
    "a is an empty string of symbols": lambda: sequence_score([], [1]),
    "objects is an empty string": lambda: behaviour([], 0),
    "trials is empty": lambda: mean_behaviour([]),
    "threshold=0 must be a finite number above 0": lambda: scanmatch(POINTS, POINTS, SCREEN, threshold=0),
    r"points of shape \(3, 2\) must be \(n, 3\)": lambda: scanmatch(POINTS, POINTS, SCREEN, temporal_bin=50),
    "leaves no symbol; the longest fixation is 0.01 s": lambda: scanmatch(
        np.array([[1, 1, 0.01]]), np.array([[1, 1, 0.01]]), SCREEN, temporal_bin=50
    ),
    r"maps of \(2, 3\) and \(3, 2\) must have one shape": lambda: cc(np.ones((2, 3)), np.ones((3, 2))),
    "saliency from -1.0 to 1.0 must be numbers from 0 on": lambda: sim(np.array([[-1.0, 1.0]]), np.ones((1, 2))),
    "all 1 cells of the map are fixated": lambda: auc_judd(np.ones((1, 1)), POINTS, SCREEN),
    "objects from 0 to 3 must be among the 3 columns": lambda: next_sim(np.ones((2, 3)), np.array([0, 3])),
    "probabilities of 2 steps and 1 objects": lambda: next_sim(np.ones((2, 3)), np.array([0])),
}


@pytest.mark.bad_input
@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_with_its_mend(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAD[message]()


def real_pair() -> tuple[np.ndarray, np.ndarray]:
    """Two people's fixations on one video."""
    root = os.environ.get("SACCADE_DATA")
    folder = Path(root or "") / "multimatch"
    if not root or not folder.is_dir():
        pytest.skip("SACCADE_DATA names no folder with multimatch/, two real scanpaths")
    one, two = (np.loadtxt(folder / f"segment_0_sub-{who}.tsv", skiprows=1) for who in ("01", "19"))
    return one, two


def test_real_scanpaths_obey_the_laws() -> None:
    a, b = real_pair()
    for simplify in (None, Simplify()):
        np.testing.assert_allclose(multimatch(a, a, SCREEN, simplify), 1)
        found = multimatch(a, b, SCREEN, simplify)
        np.testing.assert_allclose(found, multimatch(b, a, SCREEN, simplify))
        assert all(0 < value < 1 for value in found)
    assert scanmatch(a, b, SCREEN) == pytest.approx(scanmatch(b, a, SCREEN)) and 0 < scanmatch(a, b, SCREEN) < 1
    assert 0 < sequence_score(grid_cells(a, SCREEN), grid_cells(b, SCREEN)) < 1
    assert max(len(a), len(b)) - min(len(a), len(b)) <= string_edit_distance(a, b, SCREEN) <= max(len(a), len(b))
