"""The recipe of architectures from the untrained model to the measured, loadable one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saccade.data.labelled import open_source
from saccade.models import Architecture, DiT
from saccade.models.dit import DiTConfig
from saccade.train.architecture import ArchitectureRecipe
from saccade.train.config import override
from saccade.train.denoising import ArchitectureStage
from saccade.train.judging import Evaluation, evaluate
from saccade.train.loop import Fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.optimisers import Optim

RECIPE = ArchitectureRecipe(
    options={"label": "shape", "count": 256, "held": 64},
    model=DiTConfig(depth=1, width=16, heads=2, patch=8, learned_variance=False),
    train=ArchitectureStage(
        fit=Fit(steps=60, precision="no", log_every=20, save_every=30, optim=Optim(lr=3e-3)), batch=16
    ),
    evaluation=Evaluation(pictures=64, samples=8, steps=2),
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    RECIPE.run(folder)
    return folder


def test_the_loss_falls_and_everything_is_written(out: Path) -> None:
    rows = [json.loads(line) for line in (out / "train" / "loss.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert (out / "train" / "sheet-000060.png").stat().st_size > 0
    assert (out / "model" / "samples.png").stat().st_size > 0


def test_what_is_exported_is_what_was_trained(out: Path) -> None:
    model = Architecture.from_pretrained(out / "model")
    trained = load_file(out / "train" / "average.safetensors")
    assert isinstance(model, DiT)
    assert (model.config.classes, model.config.channels, model.config.side) == (4, 3, 32)
    assert all(torch.equal(value, trained[f"model.{name}"]) for name, value in model.state_dict().items())


def test_measurements_are_those_of_the_exported_model(out: Path) -> None:
    found = json.loads((out / "model" / "measured.json").read_text())["measured"]
    model = Architecture.from_pretrained(out / "model")
    again = evaluate(model, RectifiedFlow(), open_source("scenes", 32, **RECIPE.options), pictures=64)
    assert found["loss"] == pytest.approx(again["loss"], abs=1e-5)
    assert {"source", "side", "objective", "split", "pictures", "seed", "parameters"} <= found.keys()


def test_a_finished_training_is_not_run_again(out: Path) -> None:
    weights = out / "train" / "average.safetensors"
    before = weights.stat().st_mtime_ns
    assert RECIPE.run(out, ("train",)) == out / "model"
    assert weights.stat().st_mtime_ns == before


def test_a_size_is_set_out_from_and_changed() -> None:
    recipe = override(ArchitectureRecipe(), ["size=B/4", "model.depth=3", "objective=ddpm", "ddpm.weights=balance:0.5"])
    assert recipe.model == replace(DiT.sizes["B/4"], depth=3)
    assert (recipe.objective, recipe.ddpm.weights) == ("ddpm", {"balance": 0.5})


def test_options_of_the_source_are_read_as_what_they_spell() -> None:
    recipe = override(ArchitectureRecipe(), ["options=label:shape, count:9, flip:True, cache:a/b:c"])
    assert recipe.options == {"label": "shape", "count": 9, "flip": True, "cache": "a/b:c"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("size=Z/2", "size='Z/2' is unknown; choose one of S/2"),
        ("architecture=Dit", "architecture='Dit' is unknown; choose from .*DiT,"),
        ("flow.weights=balance", "flow.weights=balance cannot be read; give Mapping"),
        ("options=label", "options=label cannot be read; give Mapping"),
        ("objective=noise", "objective=noise cannot be read; give flow or ddpm"),
        ("ddpm.compat=paper", "ddpm.compat=paper cannot be read; give official"),
        ("train.fit.minutes=long", "train.fit.minutes=long cannot be read; give float"),
    ],
)
def test_a_wrong_setting_is_answered_with_the_right_ones(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(ArchitectureRecipe(), [setting])


def test_stages_before_the_training_name_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no training; run the stage 'train' first"):
        RECIPE.run(tmp_path, ("export",))
