"""Training: the loss is the model's cross-entropy, it falls, a killed run ends alike; shelves, the searcher, cells."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from saccade.metrics.scanpaths import behaviour
from saccade.papers.oat import ScanpathTask, Search
from saccade.papers.oat.cells import FEATURES, as_cells, cell_features, in_cells
from saccade.papers.oat.shelf_run import Searched, ShelfRun, judged, stage
from saccade.papers.oat.shelves import KINDS, Searcher, Shelf, nearest_first, sample_shelf
from saccade.papers.oat.training import ScanpathLoss, ScanpathStage, padded, rows_of
from saccade.train.loop import fit
from tests.papers.oat.small import GRID, OBJECTS, layouts, small

PATHS = [[0, 2, 5], [3], [1, 1, 4, 0], [5, 2]]


def trials() -> dict[str, torch.Tensor]:
    """Four trials on two layouts."""
    return {
        "objects": layouts().objects,
        "layout": torch.tensor([0, 1, 1, 0]),
        "target": torch.tensor([5, 3, 0, 2]),
        "sequence": padded(PATHS, OBJECTS),
    }


def test_the_loss_is_the_mean_over_real_steps() -> None:
    model = small()
    batch = rows_of(trials(), torch.arange(4))
    found = ScanpathLoss(model, GRID)(batch)["loss"].detach()
    nats = []
    for row, path in enumerate(PATHS):
        search = Search(objects=batch["objects"][row : row + 1], grid=GRID, target=batch["target"][row : row + 1])
        tokens = padded([path], OBJECTS)
        logits = model(search, tokens[:, :-1]).out[0]
        nats += F.cross_entropy(logits, tokens[0, 1:], reduction="none").tolist()
    assert float(found) == pytest.approx(np.mean(nats), abs=1e-5)


def test_a_row_of_a_batch_has_its_layout() -> None:
    given = trials()
    found = rows_of(given, torch.tensor([2, 0]))
    assert torch.equal(found["objects"], given["objects"][[1, 0]]) and "layout" not in found
    assert torch.equal(found["target"], given["target"][[2, 0]])


def task(steps: int, **changes: Any) -> tuple[ScanpathTask, ScanpathStage]:
    how = stage(steps, 4)
    how = replace(how, fit=replace(how.fit, log_every=1, **changes))
    return ScanpathTask(small(), trials(), GRID, how), how


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    made, how = task(40)
    before = float(ScanpathLoss(small(), GRID)(rows_of(trials(), torch.arange(4)))["nats"])
    fit(made, how.fit, tmp_path, cpu=True)
    assert float(made.module.eval()(rows_of(trials(), torch.arange(4)))["nats"]) < 0.6 * before


def test_a_killed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    constant = {"optim": replace(stage(1, 1).fit.optim, warmup=0, cooldown=0)}
    (one, whole), (two, half), (three, _) = (task(steps, **constant) for steps in (6, 3, 6))
    wanted = fit(one, whole.fit, tmp_path / "a", cpu=True)
    fit(two, half.fit, tmp_path / "b", cpu=True)
    found = fit(three, whole.fit, tmp_path / "b", cpu=True)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.bad_input
def test_no_trial_is_refused() -> None:
    with pytest.raises(ValueError, match="trials holds none"):
        ScanpathTask(small(), {"sequence": torch.empty(0, 3, dtype=torch.long)}, GRID, stage(1, 1))
    with pytest.raises(ValueError, match="batch=0"):
        ScanpathStage(batch=0)


def test_the_default_training_is_the_paper_s() -> None:
    optim = ScanpathStage().fit.optim
    assert (optim.kind, optim.lr, optim.clip, optim.warmup, optim.cooldown) == ("adamw", 1e-4, 1.0, 0, 0)
    assert ScanpathStage().batch == 20


def shelf() -> Shelf:
    return sample_shelf(np.random.default_rng(0))


def test_objects_of_a_shelf_differ_and_are_drawn_in_their_places() -> None:
    found = shelf()
    crops, picture = found.crops(), found.picture()
    assert crops.shape == (18, 3, 24, 24) and picture.shape == (1, 72, 144, 3) and 0 <= crops.min() <= crops.max() <= 1
    assert len({crop.tobytes() for crop in crops}) == 18
    for crop, (left, top, right, bottom) in zip(crops, found.boxes().astype(int), strict=True):
        assert np.array_equal(picture[0, top:bottom, left:right].transpose(2, 0, 1), crop)


def test_the_searcher_ends_at_the_target_and_looks_as_its_options_say() -> None:
    rng, found = np.random.default_rng(1), shelf()
    plain = Searcher(refix=0, revisit=0)
    for _ in range(50):
        path = plain.search(found, rng)
        assert path[-1] == found.target and len(set(path.tolist())) == len(path)
    many = [behaviour(Searcher().search(found, rng), found.target) for _ in range(300)]
    assert 0 < np.mean([each.refix for each in many]) < 0.2 and np.mean([each.revisit for each in many]) > 0
    assert len(Searcher(longest=2).search(found, rng)) <= 2


def test_the_searcher_likes_what_is_near_and_has_the_target_s_colour() -> None:
    rng, found = np.random.default_rng(2), shelf()
    first = np.array([Searcher(colour=0).search(found, rng)[0] for _ in range(400)])
    away = np.linalg.norm(found.places - (np.array(found.grid) - 1) / 2, axis=1)
    assert away[first].mean() < away.mean() - 0.3
    alike = np.array([colour == found.colours[found.target] for colour in found.colours])
    keen = np.array([Searcher(colour=3).search(found, rng)[0] for _ in range(400)])
    assert alike[keen].mean() > alike[first].mean() + 0.2


def test_nearest_first_goes_from_neighbour_to_neighbour() -> None:
    found = shelf()
    path = nearest_first(found)
    assert path[-1] == found.target and path[0] in (8, 9) and len(set(path.tolist())) == len(path)


SHELVES: dict[str, dict[str, Any]] = {
    "must be 1 x 2 objects, no two alike": {"kinds": (3, 3), "target": 0},
    f"must be places in KINDS, 0 to {len(KINDS) - 1}": {"kinds": (0, 99), "target": 0},
    "target=2 must be one of 2 objects": {"kinds": (0, 1), "target": 2},
}


@pytest.mark.bad_input
@pytest.mark.parametrize("message", SHELVES)
def test_shelves_that_are_none_are_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Shelf(**SHELVES[message], grid=(1, 2))


@pytest.mark.bad_input
def test_bad_searchers_and_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="reach=0 must be above 0"):
        Searcher(reach=0)
    with pytest.raises(ValueError, match=r"grid=\(9, 9\) holds 81 objects; there are 28"):
        sample_shelf(np.random.default_rng(0), (9, 9))
    with pytest.raises(ValueError, match="fewer pixels than grid"):
        cell_features(np.ones((1, 4, 4, 3)), (6, 8))


def test_somebody_is_nearest_to_himself() -> None:
    run = ShelfRun(judged=5, trials=3)
    held = Searched.made(run.judged, run.trials, run.grid, np.random.default_rng(3))
    found = judged(held.paths, held)
    assert found["delta"] == 0 and 0.3 < found["nw"] < 1


def test_cells_and_points_are_each_other_s_inverse() -> None:
    rng, cells = np.random.default_rng(0), np.arange(48)
    points = in_cells(cells, (800, 600), (6, 8), rng)
    assert np.array_equal(as_cells(points, (800, 600), (6, 8)), cells)
    assert as_cells(np.array([[-5.0, 3.0], [799.0, 700.0]]), (800, 600), (6, 8)).tolist() == [0, 47]


def test_features_say_what_a_cell_is_like() -> None:
    """A grey picture with one red cell: its colour, and that it differs from picture and neighbours."""
    picture = np.full((1, 60, 80, 3), 0.5)
    picture[:, 10:20, 20:30] = (1.0, 0.0, 0.0)
    found = cell_features(picture, (6, 8)).reshape(6, 8, FEATURES)
    red, grey = found[1, 2], found[4, 6]
    np.testing.assert_allclose(red[:3], (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(red[3:6], 0, atol=1e-6)
    np.testing.assert_allclose(red[10:], 0.5, atol=1e-6)
    np.testing.assert_allclose(grey[[0, 1, 2, 10, 11, 12]], (0.5, 0.5, 0.5, 0, 0, 0), atol=1e-6)
    assert red[6] > grey[6] == 0 and red[7:10].min() > 10 * grey[7:10].max()


def test_features_of_odd_pictures_cover_all_cells() -> None:
    found = cell_features(np.random.default_rng(0).random((1, 61, 83, 3)), (4, 5))
    assert found.shape == (20, FEATURES) and np.isfinite(found).all()
