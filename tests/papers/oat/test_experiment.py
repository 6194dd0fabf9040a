"""The experiment's pieces: views of photographs, judging, guesses, the drawn shelf; OSIE itself where it is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from saccade.data.osie import read_osie
from saccade.experiments import Figures, Results
from saccade.metrics.scanpaths import multimatch
from saccade.papers.oat.cells import as_cells
from saccade.papers.oat.experiment import NEAREST, RANDOM, SEARCHER, guesses, picture_of
from saccade.papers.oat.gaze_run import GazeRun, centre_odds, drawn_from, judged, views
from saccade.papers.oat.shelf_run import Searched, ShelfRun

RUN = GazeRun(source="discs", grid=(4, 4), trained=8, judged=3)


def test_features_are_scaled_by_the_pictures_trained_on_and_held_out_ones_are_others() -> None:
    seen, held = views(RUN)
    assert len(seen.people) == 8 and seen.features.shape == (8, 16, 13)
    np.testing.assert_allclose(seen.features.mean((0, 1)), 0, atol=1e-4)
    assert not any(np.array_equal(seen.features[0], other) for other in held.features)


def test_trials_are_the_cells_people_looked_at() -> None:
    seen, _ = views(RUN)
    trials = seen.trials()
    layout, row = int(trials["layout"][3]), trials["sequence"][3]
    wanted = as_cells(seen.people[layout][3], seen.size, seen.grid)
    assert row.tolist()[: len(wanted) + 2] == [18, *wanted.tolist(), 16]


def test_people_are_nearest_to_themselves_and_averages_know_no_picture() -> None:
    _, held = views(RUN)
    held = held.take(range(3))
    best = judged([people[-RUN.observers :] for people in held.people], held, RUN)
    odds = centre_odds(held)
    guessed = judged(drawn_from(odds, held, held, RUN, 0), held, RUN)
    assert best["scanmatch"] > guessed["scanmatch"] and best["nss"] > guessed["nss"] and best["cc"] > 0.999
    assert odds.sum() == sum(len(path) for people in held.people for path in people)


def test_guesses_are_as_many_as_the_searcher_s() -> None:
    run, rng = ShelfRun(judged=3, trials=2), np.random.default_rng(0)
    held = Searched.made(3, 2, run.grid, rng)
    found = guesses(held, run, rng)
    assert found.keys() == {NEAREST, RANDOM, SEARCHER} and all([len(p) for p in f] == [2] * 3 for f in found.values())
    assert {len(path) for paths in found[RANDOM] for path in paths} <= {len(p) for paths in held.paths for p in paths}
    assert any(not np.array_equal(a[0], b[0]) for a, b in zip(found[SEARCHER], held.paths, strict=True))


def test_a_searched_shelf_is_drawn_from_its_row(tmp_path: Path) -> None:
    row = {"kinds": list(range(6)), "target": 4, "grid": [2, 3], "paths": {"one": [0, 3], "two": [4], "three": [5, 5]}}
    results = Results(device="", date="", versions={}, tables={"pictures": [row]})
    assert picture_of(results, Figures(folder=tmp_path, name="oat")).endswith("(oat-paths.svg)")
    assert (tmp_path / "oat-paths.svg").stat().st_size > 5000


@pytest.mark.slow  # all of OSIE's files are opened
def test_people_s_scanpaths_over_a_photograph_obey_the_laws_of_measures() -> None:
    root = os.environ.get("SACCADE_DATA")
    if not root or not (Path(root) / "osie" / "fixations.mat").is_file():
        pytest.skip("SACCADE_DATA names no folder with osie/, people's fixations on photographs")
    gaze = read_osie()
    one, two = (path.timed for path in gaze.scanpaths[gaze.names[0]][:2])
    np.testing.assert_allclose(multimatch(one, one, gaze.size), 1)
    np.testing.assert_allclose(multimatch(one, two, gaze.size), multimatch(two, one, gaze.size))
    assert all(0 < value < 1 for value in multimatch(one, two, gaze.size))
