"""The experiment on MMFace-DiT's parts: its scores of pictures, its arms, and what its claims say of figures."""

import numpy as np
import pytest

from saccade.data.labelled import ControlledScenes
from saccade.data.scenes import render
from saccade.experiments import Results, Row
from saccade.models.sizing import parameters
from saccade.papers.mmface_dit import experiment
from saccade.papers.mmface_dit.report import (
    APART,
    CLAIMS,
    DIFFUSION,
    DUAL,
    ORDERED,
    OURS,
    SINGLE,
    conflict_table,
)
from saccade.papers.mmface_dit.scores import colours_kept, follows, iou, mean_iou, other_shape

QUICK = experiment.EXPERIMENT.quick


def test_exact_pictures_score_high_and_those_of_other_scenes_low() -> None:
    scenes, _ = ControlledScenes().captioned(24)
    pictures = [render(scene, 32) for scene in scenes]
    own = [(mean_iou(a, b), colours_kept(a, b)) for a, b in zip(pictures, scenes, strict=True)]
    other = [(mean_iou(a, b), colours_kept(a, b)) for a, b in zip(pictures, scenes[1:], strict=False)]
    assert np.mean(own, axis=0).min() > 0.95 and np.mean(other, axis=0).max() < 0.6
    empty = np.zeros((32, 32), bool)
    assert iou(empty, empty) == 1 and iou(empty, ~empty) == 0


def test_a_picture_follows_the_shape_that_it_shows() -> None:
    scenes, _ = ControlledScenes(things=1).captioned(12)
    shown = [render(scene, 32) for scene in scenes]
    pairs = [(picture, scene, other_shape(scene)) for picture, scene in zip(shown, scenes, strict=True)]
    assert np.mean([follows(picture, scene, other) for picture, scene, other in pairs]) > 0.9
    assert not any(follows(picture, other, scene) for picture, scene, other in pairs)


def test_arms_of_the_ladder_have_as_many_weights() -> None:
    counts = {arm: parameters(experiment.made(options, QUICK)) for arm, options in experiment.arms(QUICK).items()}
    assert len({counts[arm] for arm in (SINGLE, DUAL, OURS, ORDERED, DIFFUSION)}) == 1
    assert counts[APART] == counts[OURS] - 2 * QUICK.width


def test_verdicts_follow_from_the_figures(results: Results) -> None:
    verdicts = {claim.text: claim.verdict(results) for claim in CLAIMS}
    assert list(verdicts.values()) == [
        "confirmed", "confirmed", "refuted", "confirmed", "confirmed", "confirmed", "refuted", "refuted",
    ]  # fmt: skip
    assert "| mask | 1 [" in conflict_table(results, None)  # type: ignore[arg-type]


@pytest.fixture
def results() -> Results:
    """Losses and colours by arm; the flow's IoU in the fewest steps below DDPM's, in more above it."""
    given = {SINGLE: (1.2, 0.1), DUAL: (1.0, 0.6), OURS: (1.1, 0.7), ORDERED: (1.3, 0.7), APART: (1.15, 0.7)}
    runs: list[Row] = [
        {"arm": arm, "picture": i, "loss": loss + i / 10, "colour": colour, "miou": 0.5}
        for arm, (loss, colour) in given.items()
        for i in range(4)
    ]
    steps: list[Row] = [
        {"arm": arm, "steps": count, "picture": i, "miou": value + i / 100, "colour": 0.5}
        for arm, values in ((OURS, (0.2, 0.9)), (DIFFUSION, (0.4, 0.5)))
        for count, value in zip((10, 50), values, strict=True)
        for i in range(4)
    ]
    conflicts: list[Row] = [{"arm": ("mask", "sketch")[i % 2], "picture": i, "picture_wins": 1.0} for i in range(20)]
    tables = {"runs": runs, "steps": steps, "conflicts": conflicts}
    return Results(device="cpu", date="", versions={}, tables=tables)
