"""The task of a denoiser on scenes, and how it is judged."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saccade.data.labelled import SceneSource, open_scenes
from saccade.models import DiT, Prediction
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation, eval_mode, evaluate, null_condition
from saccade.train.objectives import Ddpm, RectifiedFlow

SMALL: dict[str, Any] = {"depth": 1, "width": 16, "heads": 2, "patch": 4, "side": 16, "channels": 3, "classes": 4}


@pytest.fixture(scope="module")
def source() -> SceneSource:
    return open_scenes(16, label="shape", count=64, held=40)


def task(source: Any, **stage: Any) -> ArchitectureTask:
    torch.manual_seed(0)
    return ArchitectureTask(DiT(**SMALL), RectifiedFlow(), source, ArchitectureStage(**{"batch": 32, **stage}))


def test_the_random_state_alone_decides_a_batch(source: SceneSource) -> None:
    first, second, other = (task(source).batch(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["x"].shape == first["noise"].shape == (32, 3, 16, 16)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_labels_says_nothing(source: SceneSource, share: float) -> None:
    gone = task(source, batch=2000, drop=share).batch(np.random.default_rng(0))["condition"] == source.classes
    assert gone.float().mean().item() == pytest.approx(share, abs=0.04)


class WordSource:
    """A source whose pictures come with words and their mask."""

    classes, channels, side = 0, 3, 4

    def batch(self, rng: np.random.Generator, n: int) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(n, 3, 4, 4), {"words": torch.ones(n, 5, 2), "keep": torch.ones(n, 5, dtype=torch.bool)}

    def held_out(self, n: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.batch(np.random.default_rng(0), n)

    def null(self, condition: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.zeros_like(value) for name, value in condition.items()}


def test_words_are_dropped_by_the_row() -> None:
    said = task(WordSource(), batch=200, drop=0.5).batch(np.random.default_rng(0))["condition"]
    assert torch.equal(said["words"][:, 0, 0].bool(), said["keep"][:, 0])
    assert said["words"].flatten(1).std(dim=1).max() == 0
    assert 60 < said["keep"][:, 0].sum() < 140


class Reader(nn.Module):
    """Draws a velocity towards the mean of its words."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, t: Tensor, said: dict[str, Tensor]) -> Prediction:
        return Prediction((z - said["words"].mean((1, 2)).view(-1, 1, 1, 1)) / t.view(-1, 1, 1, 1), {})


def test_words_are_drawn_and_judged() -> None:
    source: Any = WordSource()
    made = ArchitectureTask(
        Reader(), RectifiedFlow(), source, evaluation=Evaluation(samples=2, steps=2, guidance=1.0)
    ).sheet()
    assert (made[3, 3] == 255).all()
    assert evaluate(Reader(), RectifiedFlow(), source, pictures=6)["mse"] > 0


def test_nothing_is_one_label_above_the_last(source: SceneSource) -> None:
    assert null_condition(source, torch.tensor([0, 3])).tolist() == [4, 4]


def test_muon_gets_the_matrices_of_blocks_but_not_what_modulates_them(source: SceneSource) -> None:
    chosen = task(source)
    hidden = {name for name, _ in chosen.module.named_parameters() if chosen.uses_muon(name)}
    assert "model.blocks.0.mixer.qkv.weight" in hidden
    assert not [name for name in hidden if "modulation" in name or "blocks" not in name]


@pytest.mark.parametrize("objective", [RectifiedFlow(), Ddpm()])
def test_judging_repeats_and_leaves_the_model_as_it_was(source: SceneSource, objective: Any) -> None:
    model = DiT(**SMALL)
    nn.init.normal_(model.final.linear.weight, std=0.1)
    first, second = (evaluate(model, objective, source, pictures=40, batch=batch) for batch in (40, 40))
    assert first == second
    parts = evaluate(model, objective, source, pictures=40, batch=7)
    assert parts == pytest.approx(first, rel=1e-5)
    assert model.training


def test_a_blank_flow_costs_what_noise_and_pictures_weigh(source: SceneSource) -> None:
    """Its velocity is 0, so that the loss is the mean square of n - x."""
    x, _ = source.held_out(40)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5))
    found = evaluate(DiT(**SMALL), RectifiedFlow(), source, pictures=40, seed=5)
    assert found["mse"] == pytest.approx((noise - x).square().mean().item(), rel=1e-5)


def test_models_are_judged_in_evaluation_mode() -> None:
    model = nn.Dropout()
    with pytest.raises(KeyError), eval_mode(model):
        assert not model.training
        raise KeyError
    assert model.training


class Painter(nn.Module):
    """Draws label k in the grey k / 4."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor, t: Tensor, labels: Tensor) -> Prediction:
        return Prediction((z - labels.view(-1, 1, 1, 1) / 4) / t.view(-1, 1, 1, 1), {})


def test_a_sheet_shows_classes_in_order(source: SceneSource) -> None:
    made = ArchitectureTask(
        Painter(), RectifiedFlow(), source, evaluation=Evaluation(samples=8, steps=2, guidance=1.0)
    ).sheet()
    greys = made[10, 10::18, 0]
    expected = np.round((np.linspace(0, 3, 8).round() / 4 + 1) * 127.5)
    assert np.abs(greys - expected).max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"drop": 1.5}, r"drop=1.5 must be in \[0, 1\]"), ({"batch": 0}, "batch=0 must be above 0")],
)
def test_a_wrong_stage_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArchitectureStage(**options)
