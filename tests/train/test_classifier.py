"""The recipe of the judge: what it trains on, what it learns, what a folder keeps."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from saccade.data.labelled import Pictures, open_scenes
from saccade.metrics import quality
from saccade.models.classifier import Classifier
from saccade.train import classifier
from saccade.train.classifier import ClassifierRecipe, ClassifierStage, ClassifierTask, moved
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim

FIT = Fit(steps=60, decay=0.9, precision="no", save_every=1000, optim=Optim(lr=3e-3, muon_lr=2e-2, cooldown=0.7))
RECIPE = ClassifierRecipe(
    side=16, label="colour", width=8, judged=400, train=ClassifierStage(fit=FIT, batch=64, shift=1)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judge")


@given(seed=st.integers(0, 2**32 - 1), shift=st.integers(0, 2), flip=st.booleans())
def test_moving_shifts_and_mirrors_whole_pictures(seed: int, shift: int, flip: bool) -> None:
    x = torch.rand(3, 2, 6, 6, generator=torch.Generator().manual_seed(seed))
    found = moved(x, np.random.default_rng(seed), shift, flip)
    padded = F.pad(x, (shift,) * 4, mode="replicate")
    offsets = [(a, b) for a in range(2 * shift + 1) for b in range(2 * shift + 1)]
    shifted = [padded[:, :, a : a + 6, b : b + 6] for a, b in offsets]
    allowed = torch.stack(shifted + [y.flip(-1) for y in shifted if flip])
    assert (allowed == found).flatten(2).all(2).any(0).all()


def test_half_of_the_pictures_are_mirrored() -> None:
    x = torch.rand(400, 1, 4, 4)
    mirrored = (moved(x, np.random.default_rng(0), 0, True) != x).flatten(1).any(1)
    assert 150 < int(mirrored.sum()) < 250


def test_a_batch_depends_on_the_generator_alone() -> None:
    source = open_scenes(16, count=50, held=1)
    tasks = [ClassifierTask(Classifier(side=16, width=4, classes=28), source, RECIPE.train) for _ in range(2)]
    first, second = (task.batch(np.random.default_rng(5)) for task in tasks)
    assert all(torch.equal(first[name], second[name]) for name in ("x", "labels"))


@pytest.mark.slow
def test_a_few_steps_tell_colours_and_judge(folder: Path) -> None:
    model, source = RECIPE.judge(folder), RECIPE.open()
    stored = json.loads((folder / "model" / "measured.json").read_text())["measured"]
    assert stored["accuracy"]["mid"] > 0.8 and stored["pictures"] == 400
    assert set(stored["by_label"]) == set(source.names)
    x, labels = source.held_out(800)
    real = quality(model, x[:400], labels[:400], x[400:], labels[400:])
    noisy = quality(model, x[:400], labels[:400], x[400:] + 0.5 * torch.randn(400, 3, 16, 16), labels[400:])
    assert real.real_accuracy.mid == pytest.approx(stored["accuracy"]["mid"], abs=1e-3)
    assert noisy.frechet.value > 3 * real.frechet.value and noisy.accuracy.mid < real.accuracy.mid


@pytest.mark.slow
def test_a_finished_judge_is_read_and_not_trained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = RECIPE.judge(folder).state_dict()
    monkeypatch.setattr(classifier, "fit", lambda *given: pytest.fail("trained again"))
    found = RECIPE.judge(folder)
    assert not found.training
    assert all(torch.equal(value, wanted[name]) for name, value in found.state_dict().items())
    with pytest.raises(
        ValueError, match=r"holds runs of other settings \(seed: 0 there, 1 here\); name another folder"
    ):
        replace(RECIPE, seed=1).judge(folder)


def test_evaluation_counts_by_label() -> None:
    class Dark(Classifier):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([-x.mean((1, 2, 3)), x.mean((1, 2, 3))], 1)

    pixels = np.array([0, 0, 0, 200], np.uint8)[:, None, None, None].repeat(3, 3)
    labels = np.array([0, 0, 1, 1])
    source = Pictures(names=("dark", "light"), train=pixels, labels=labels, held=pixels, held_labels=labels)
    found = classifier.measured(Dark(side=16, classes=2, width=1), source, 4)
    assert found["accuracy"]["mid"] == 0.75 and found["by_label"] == {"dark": 1.0, "light": 0.5}


def test_other_sources_are_opened_with_their_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(classifier, "open_source", lambda *given, **options: asked.append((given, options)))
    for recipe in (RECIPE, ClassifierRecipe(source="cifar10", cache="kept")):
        recipe.open()
    assert asked == [
        (("scenes", 16), {"label": "colour", "count": 16384, "held": 4096}),
        (("cifar10", 32), {"cache": "kept"}),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: ClassifierStage(shift=-1), "shift=-1 must be at least 0 pixels"),
        (lambda: ClassifierStage(batch=0), "batch=0 must be above 0"),
        (lambda: ClassifierRecipe(judged=0), "judged=0 must be above 0"),
    ],
)
def test_bad_settings_are_answered(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        given()
