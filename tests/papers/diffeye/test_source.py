"""What DiffEye trains on, that training goes on after a stop, and walks that know no picture."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data.discs import DiscViews, disc_gaze
from saccade.experiments import fitted
from saccade.metrics.trajectories import resampled
from saccade.papers import ColourEdges, GazeSource
from saccade.papers.diffeye.coordinates import to_unit
from saccade.papers.diffeye.walks import CentreWalk, uniform
from saccade.train.denoising import ArchitectureStage
from saccade.train.loop import Fit
from saccade.train.objectives import Ddpm
from saccade.train.optimisers import Optim
from tests.papers.diffeye.plain import tiny

ENCODER = ColourEdges(grid=(4, 4), pixels=(32, 32))
GAZE = disc_gaze(3, 2, views=DiscViews(length=40))


@pytest.fixture(scope="module")
def source() -> GazeSource:
    return GazeSource.of_gaze(GAZE, ENCODER, 16)


def test_trajectories_are_resampled_and_belong_to_their_picture(source: GazeSource) -> None:
    assert len(source) == 6 and source.of.tolist() == [0, 0, 1, 1, 2, 2] and source.side == 16
    wanted = resampled(to_unit(GAZE.trajectories[GAZE.names[1]][0], GAZE.size), 16)
    np.testing.assert_allclose(source.paths[2], wanted, atol=1e-6)
    picture = torch.from_numpy(GAZE.picture(GAZE.names[2])).permute(0, 3, 1, 2)
    torch.testing.assert_close(source.image[2], ENCODER(picture).tokens[0], atol=1e-6, rtol=0)


def test_a_batch_depends_on_the_generator_alone_and_null_hides_the_picture(source: GazeSource) -> None:
    (x, condition), (y, other) = (source.batch(np.random.default_rng(3), 5) for _ in range(2))
    assert torch.equal(x, y) and torch.equal(condition["image"], other["image"])
    assert bool(condition["shown"].all()) and not source.null(condition)["shown"].any()
    assert len(source.held_out(100)[0]) == 6


def test_one_global_feature_is_a_single_token() -> None:
    assert GazeSource.of_gaze(GAZE, ENCODER, 16, sees="global").image.shape == (3, 1, 8)


def test_cutting_keeps_the_first_samples_of_those_long_enough() -> None:
    name = GAZE.names[0]
    short = replace(GAZE, trajectories={**GAZE.trajectories, name: (GAZE.trajectories[name][0][:12],)})
    found = GazeSource.of_gaze(short, ENCODER, 16, fitting="cut")
    assert found.of.tolist() == [1, 1, 2, 2]
    first = to_unit(GAZE.trajectories[GAZE.names[1]][0], GAZE.size)[:16]
    np.testing.assert_allclose(found.paths[0], first, atol=1e-6)
    assert len(GazeSource.of_gaze(short, ENCODER, 16, shortest=13)) == 4


@pytest.mark.bad_input
def test_data_that_cannot_be_trained_on_are_named() -> None:
    def with_path(path: np.ndarray) -> GazeSource:
        return GazeSource.of_gaze(replace(GAZE, trajectories=dict.fromkeys(GAZE.names, (path,))), ENCODER, 16)

    with pytest.raises(ValueError, match=r"discs-00000 has no number in rows \[1\] of 3"):
        with_path(np.array([[1.0, 2.0], [np.nan, 2.0], [3.0, 3.0]]))
    with pytest.raises(
        ValueError, match=r"points\[0\]=\[80. 10.\] is outside size=\(64, 64\) by more than tolerance=0"
    ):
        with_path(np.array([[80.0, 10.0], [1.0, 2.0]]))
    with pytest.raises(ValueError, match="no trajectory of 3 pictures has 41 samples; lower shortest"):
        GazeSource.of_gaze(GAZE, ENCODER, 16, shortest=41)
    with pytest.raises(ValueError, match="fitting='pad' is unknown; choose one of resample, cut"):
        GazeSource.of_gaze(GAZE, ENCODER, 16, fitting="pad")  # type: ignore[arg-type]


def test_training_lowers_the_loss_and_goes_on_after_a_stop(source: GazeSource, tmp_path: Path) -> None:
    def run(folder: str, *lengths: int) -> dict[str, torch.Tensor]:
        model = tiny(features=8).float()
        for steps in lengths:
            fit = Fit(steps=steps, precision="no", decay=0.5, log_every=1, optim=Optim.constant(1e-3))
            fitted(model, source, ArchitectureStage(fit=fit, batch=8), tmp_path / folder, Ddpm())
        return model.state_dict()

    whole, stopped = run("whole", 6), run("stopped", 2, 6)
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "whole" / "loss.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]


def test_a_walk_moves_about_the_middle_as_those_it_is_fitted_to() -> None:
    true = CentreWalk(
        begin=np.zeros(2), mean=np.array([0.1, -0.1]), keep=np.array([0.9, 0.7]), noise=np.array([0.1, 0.05])
    )
    paths = true.sample(400, 64, np.random.default_rng(0))
    found = CentreWalk.fitted(torch.from_numpy(paths))
    for name in ("mean", "keep", "noise"):
        np.testing.assert_allclose(getattr(found, name), getattr(true, name), atol=0.03)
    assert paths.shape == (400, 64, 2) and np.abs(paths).max() <= 1 and not paths[:, 0].any()
    assert np.abs(uniform(50, 20, np.random.default_rng(0)).mean()) < 0.1
    with pytest.raises(ValueError, match="paths of 1 samples have no step"):
        CentreWalk.fitted(torch.zeros(3, 1, 2))
