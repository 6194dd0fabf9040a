"""The picture classifier of any parts, and its training."""

from dataclasses import replace

import pytest
import torch

from saccade.data.labelled import open_scenes
from saccade.models import ViT
from saccade.models.vit import ViTConfig
from saccade.train.classifier import ClassifierStage, ClassifierTask, held_out
from saccade.train.loop import Fit, fit

TINY = ViTConfig(depth=1, width=16, heads=2, side=16, patch=4, classes=7)


def test_published_sizes_count_what_others_count() -> None:
    counts = {name: ViT.parameters_of(config) for name, config in ViT.sizes.items()}
    assert counts == {"Ti/16": 5_717_416, "S/16": 22_050_664, "B/16": 86_567_656}


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_one_batch_is_learned(pool: str) -> None:
    torch.manual_seed(0)
    model = ViT(replace(TINY, pool=pool))
    x, labels = torch.randn(7, 3, 16, 16), torch.arange(7)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(model(x).out, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1 and model(x).losses == {}


def test_auxiliary_losses_come_out_and_are_trained() -> None:
    model = ViT(replace(TINY, ffn="moe(experts=2, top=1, shared=0, hidden=8)"))
    task = ClassifierTask(model, open_scenes(16, label="shape", count=64, held=8), ClassifierStage(batch=4))
    found = task.module({"x": torch.randn(4, 3, 16, 16), "labels": torch.arange(4)})
    assert found["balance"] > 0 and found["loss"] > found["balance"]


def test_any_mixer_stands_in_it() -> None:
    for mixer in ("attention(rotary=True)", "linear(local=3)", "moh(shared=1, routed=1)"):
        assert ViT(replace(TINY, mixer=mixer))(torch.randn(2, 3, 16, 16)).out.shape == (2, 7)


def test_it_is_judged_on_held_out_pictures(tmp_path: object) -> None:
    source = open_scenes(16, label="shape", count=64, held=32)
    model = ViT(replace(TINY, classes=source.classes))
    stage = ClassifierStage(fit=Fit(steps=3, precision="no"), batch=8)
    fit(ClassifierTask(model, source, stage), stage.fit, tmp_path)  # type: ignore[arg-type]
    nats, right = held_out(model.eval(), source, 32)
    assert nats.shape == right.shape == (32,) and bool((nats > 0).all()) and right.dtype == torch.bool


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="side=16 must be a multiple of patch=5"):
        replace(TINY, patch=5)
    with pytest.raises(ValueError, match="pool='max' must be mean or class"):
        replace(TINY, pool="max")
    with pytest.raises(ValueError, match=r"must be \(batch, 3, 16, 16\)"):
        ViT(TINY)(torch.zeros(1, 3, 32, 32))
