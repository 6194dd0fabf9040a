"""The experiment on E-MMDiT's parts: its scores of pictures, how arms are compared, what is trained once only."""

from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data.scenes import render
from saccade.experiments import Results, Row, fitted
from saccade.papers.e_mmdit import captioned_scenes, experiment
from saccade.papers.e_mmdit.captioned_scenes import PADDING, WORDS, CaptionedScenes, held_out_prompts, held_out_scenes
from saccade.papers.e_mmdit.report import CLAIMS, LITTLE, score

QUICK = experiment.EXPERIMENT.quick


def test_overlap_of_an_exact_picture_is_high_and_of_bare_background_zero() -> None:
    for scene in held_out_scenes(4):
        picture = render(scene, 32)
        assert captioned_scenes.overlap(picture, scene) > 0.8
        assert captioned_scenes.overlap(np.broadcast_to(picture[0, 0], picture.shape), scene) == 0


def test_exact_pictures_keep_the_place_that_turned_ones_lose() -> None:
    scenes, prompts = held_out_scenes(24), held_out_prompts(24)
    shown = [(render(a, 32), b) for a, b in zip(scenes, prompts, strict=True) if b.wants[0].place is not None]
    assert all(captioned_scenes.keeps_place(picture, prompt) for picture, prompt in shown)
    assert sum(captioned_scenes.keeps_place(picture[::-1, ::-1], prompt) for picture, prompt in shown) < len(shown)


def test_held_out_pictures_and_captions_are_always_the_same() -> None:
    (x, ids), (again, _) = CaptionedScenes().held_out(5), CaptionedScenes().held_out(5)
    assert torch.equal(x, again) and x.shape == (5, 3, 32, 32) and x.min() >= -1 and x.max() <= 1
    assert ids.shape == (5, WORDS) and (ids[:, 0] < PADDING).all() and torch.equal(
        ids, captioned_scenes.word_numbers(held_out_prompts(5))
    )  # fmt: skip


def test_every_arm_but_the_first_changes_what_it_costs() -> None:
    pairs = [experiment.config(arm, experiment.Settings()).pairs(WORDS) for arm in experiment.ARMS]
    assert pairs == [443904, 184832, 108608, 108608, 108608, 108608]


def test_arms_are_compared_picture_by_picture_with_those_before() -> None:
    rows = [*experiment.compared({"full": {"loss": [1.0, 2.0, 3.0]}, "+ compression": {"loss": [1.5, 2.5, 3.5]}})]
    assert [(row["arm"], row["against"], row["mid"]) for row in rows] == [
        ("+ compression", "", 2.5), ("+ compression", "full", 0.5),
    ]  # fmt: skip
    assert rows[0]["low"] < 2.5 < rows[0]["high"] and rows[1]["low"] == rows[1]["high"] == 0.5


def test_a_finished_arm_is_not_trained_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = experiment.made("+ positions", QUICK)
    start = torch.cat([weight.flatten() for weight in model.parameters()])
    fitted(model, CaptionedScenes(), experiment.stage(QUICK), tmp_path)
    trained = torch.cat([weight.flatten() for weight in model.parameters()])
    monkeypatch.setattr(CaptionedScenes, "batch", lambda *given: pytest.fail("trained again"))
    again = experiment.made("+ positions", QUICK)
    fitted(again, CaptionedScenes(), experiment.stage(QUICK), tmp_path)
    assert torch.equal(trained, torch.cat([weight.flatten() for weight in again.parameters()]))
    assert not torch.equal(start, trained) and not again.training and not list(tmp_path.glob("sheet-*"))


def test_a_change_within_the_bound_is_little_and_one_beyond_it_is_not(results: Results) -> None:
    verdicts = {claim.text: claim.verdict(results) for claim in CLAIMS}
    assert score(results, "loss", "full").mid == 1 and LITTLE == 0.05
    assert verdicts["it costs little loss"] == "confirmed"
    assert verdicts["subregions cost little loss"] == "refuted"
    assert verdicts["adaLN-single differs little from AdaLN-affine"] == "undecided"
    assert verdicts["compression makes a step more than 1.5 times as fast"] == "confirmed"
    assert verdicts["positions added again improve the overlap"] == "refuted"


@pytest.fixture
def results() -> Results:
    """Losses of 1, changed by 0.02 through compression, by -0.08 through subregions, by about 0.05 through adaLN."""
    changes = {
        ("+ compression", "loss", "full"): (0.01, 0.02, 0.03),
        ("+ subregions", "loss", "+ compression"): (-0.09, -0.08, -0.07),
        ("the same, adaLN-single", "loss", "+ positions"): (0.04, 0.05, 0.06),
        ("the same, a linear layer per block", "loss", "+ positions"): (0.0, 0.0, 0.0),
        ("+ positions", "overlap", "+ subregions"): (-0.3, -0.2, -0.1),
    } | {(arm, "loss", ""): (0.9, 1.0, 1.1) for arm in experiment.ARMS}
    held: list[Row] = [
        dict(zip(("arm", "score", "against", "low", "mid", "high", "n"), (*key, *value, 512), strict=True))
        for key, value in changes.items()
    ]
    seconds = {"full": 3.0, "+ compression": 1.0}
    steps: list[Row] = [{"arm": arm, "round": i, "seconds": each} for arm, each in seconds.items() for i in range(3)]
    return Results(device="cpu", date="", versions={}, tables={"held_out": held, "steps": steps})
