"""`saccade train` as people call it."""

from pathlib import Path

import pytest

from saccade.cli import main
from saccade.papers.attencraft import AttenCraftRecipe
from saccade.papers.clear import DistillationRecipe
from saccade.train.scenes_flux import ScenesFluxRecipe
from saccade.train.shakespeare import ShakespeareRecipe


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ScenesFluxRecipe, tuple[str, ...]]]:
    """What `run` was called with, instead of training."""
    calls: list[tuple[ScenesFluxRecipe, tuple[str, ...]]] = []

    def run(recipe: ScenesFluxRecipe, folder: Path, stages: tuple[str, ...]) -> Path:
        calls.append((recipe, stages))
        return folder

    monkeypatch.setattr(ScenesFluxRecipe, "run", run)
    return calls


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["train", *words])
    return int(ended.value.code or 0)


def test_options_reach_the_recipe(asked: list[tuple[ScenesFluxRecipe, tuple[str, ...]]], tmp_path: Path) -> None:
    words = ["scenes-flux", "--out", str(tmp_path), "--steps", "7", "--set", "flow.drop=0.1", "--stage", "flow"]
    assert call(*words) == 0
    ((recipe, stages),) = asked
    assert (recipe.flow.fit.steps, recipe.flow.fit.minutes, recipe.flow.drop) == (7, None, 0.1)
    assert stages == ("flow",)


def test_the_length_of_the_language_model_is_that_of_its_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lengths = []

    def run(recipe: ShakespeareRecipe, folder: Path, stages: tuple[str, ...]) -> Path:
        lengths.append((recipe.train.fit.minutes, stages))
        return folder

    monkeypatch.setattr(ShakespeareRecipe, "run", run)
    assert call("shakespeare-lm", "--out", str(tmp_path), "--minutes", "3") == 0
    assert lengths == [(3, ("train", "export", "evaluate"))]


def test_a_papers_own_recipe_takes_the_same_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def run(recipe: DistillationRecipe, folder: Path, stages: tuple[str, ...]) -> Path:
        asked.append((recipe.radius, recipe.own.side, recipe.train.fit.steps, stages))
        return folder

    monkeypatch.setattr(DistillationRecipe, "run", run)
    words = ["clear-distil", "--out", str(tmp_path), "--steps", "9", "--set", "radius=4", "--set", "own.side=512"]
    assert call(*words) == 0
    assert asked == [(4.0, 512, 9, ("train", "export"))]


def test_concepts_are_named_on_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def run(recipe: AttenCraftRecipe, folder: Path, stages: tuple[str, ...]) -> Path:
        asked.append((recipe.concepts, recipe.phrases, recipe.train.fit.steps, recipe.train.scheme, stages))
        return folder

    monkeypatch.setattr(AttenCraftRecipe, "run", run)
    words = ["attencraft", "--out", str(tmp_path), "--steps", "9", "--set", "concepts=<new1>:cat,<new2>:dog"]
    assert call(*words, "--set", "phrases=<new2>:a sleepy <new2>", "--set", "train.scheme=reweighted") == 0
    concepts = {"<new1>": "cat", "<new2>": "dog"}
    assert asked == [(concepts, {"<new2>": "a sleepy <new2>"}, 9, "reweighted", ("train",))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scenes"], "recipe 'scenes' is unknown; choose one of scenes-flux, scenes-wan, shakespeare-lm"),
        (["scenes-flux", "--stage", "vae"], "stage='vae' is unknown; choose from autoencoder"),
        (["scenes-flux", "--set", "flow.dropp=1"], "no field 'dropp' among"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_ones(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words, "--out", str(tmp_path)) == 2
    assert message in capsys.readouterr().err
