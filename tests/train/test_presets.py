"""Every small recipe trains, stores and judges its architecture."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saccade.cli.train import PRESETS
from saccade.data.labelled import open_scenes
from saccade.models import Architecture
from saccade.train.architecture import ArchitectureRecipe
from saccade.train.denoising import ArchitectureTask
from saccade.train.judging import Evaluation
from saccade.train.loop import Fit
from saccade.train.objectives import RectifiedFlow
from saccade.train.presets import preset


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_a_small_recipe_trains_and_stores_its_model(name: str, tmp_path: Path) -> None:
    made = preset(name)
    tiny = replace(
        made,
        options={"label": "shape", "count": 8, "held": 8} if made.source == "scenes" else {},
        train=replace(made.train, batch=4, fit=Fit(steps=2, precision="no", log_every=1)),
        evaluation=Evaluation(pictures=8, samples=2, steps=1),
    )
    model = Architecture.from_pretrained(tiny.run(tmp_path))
    assert type(model).__name__ == made.architecture
    assert 1e5 < sum(weight.numel() for weight in model.parameters()) < 1e6


@pytest.mark.parametrize("name", PRESETS)
def test_muon_trains_something_and_not_everything(name: str) -> None:
    source = open_scenes(32, label="shape", count=4, held=4)
    task = ArchitectureTask(preset(name).fresh(source), RectifiedFlow(), source)
    weights = {key: weight for key, weight in task.module.named_parameters() if weight.ndim >= 2}
    hidden = [key for key in weights if task.uses_muon(key)]
    assert 0 < len(hidden) < len(weights)
    assert not [key for key in hidden if "label" in key or "final" in key]


def test_a_model_of_another_kind_is_told() -> None:
    with pytest.raises(ValueError, match="model is a DiTConfig, not the DiCoConfig of architecture='DiCo'; set size"):
        ArchitectureRecipe(architecture="DiCo")
    assert ArchitectureRecipe(architecture="DiCo", size="S").model == Architecture.kinds()["DiCo"].sizes["S"]


def test_models_told_words_are_refused() -> None:
    with pytest.raises(ValueError, match="architecture='PTDiT' is conditioned on words, not labels"):
        ArchitectureRecipe(architecture="PTDiT")


def test_a_fresh_model_fits_its_source() -> None:
    source = open_scenes(16, label="shape", count=4, held=4)
    model = preset("dit").fresh(source)
    assert (model.config.side, model.config.channels, model.config.classes) == (16, 3, 4)
    again = preset("dit").fresh(source)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
