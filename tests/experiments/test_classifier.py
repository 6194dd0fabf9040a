"""Classifiers trained as arms: what they are trained on, and what they are compared by."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from saccade.data.labelled import Pictures
from saccade.experiments.classifier import classified, few, open_pictures, scores, trained_on
from saccade.models import ViT
from saccade.train.classifier import ClassifierStage
from saccade.train.loop import Fit


def numbered(count: int = 10) -> Pictures:
    """Picture i is of the grey value i, its label i % 2."""
    train = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 1)).copy()
    labels = np.arange(count) % 2
    return Pictures(names=("even", "odd"), train=train, labels=labels, held=train[:4], held_labels=labels[:4])


class Parity(nn.Module):
    """Logits that name the label, surely where `training` is off."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value = ((x[:, 0, 0, 0] + 1) * 127.5).round()
        odd = value % 2
        sure = 0.0 if self.training else 50.0
        return torch.stack((sure * (1 - odd), sure * odd), dim=1)


def test_few_are_a_fixed_choice_with_their_labels() -> None:
    source = few(numbered(), 6)
    values = source.train[:, 0, 0, 0]
    assert len({*values.tolist()}) == 6 and (values % 2 == source.labels).all()
    assert (values == few(numbered(), 6).train[:, 0, 0, 0]).all() and len(source.held) == 4
    assert (few(numbered(), 10).train.sum(), len(trained_on(source).held)) == (numbered().train.sum(), 6)
    with pytest.raises(ValueError, match="count=11 must be 1 to 10, the number of pictures to train on"):
        few(numbered(), 11)


def test_scores_are_taken_in_evaluation() -> None:
    model = Parity().train()
    found = scores(model, numbered(), 4)
    assert found["accuracy"] == 1 and found["loss"] < 1e-9 and model.training


def test_an_arm_is_trained_and_taken_up_again(tmp_path: Path) -> None:
    source = open_pictures("scenes", 16, tmp_path)
    sizes: Any = {"depth": 1, "width": 8, "heads": 2, "side": 16, "patch": 8, "classes": source.classes}
    stage = ClassifierStage(fit=Fit(steps=2, precision="no"), batch=2)
    first = classified(ViT(**sizes), source, stage, tmp_path / "arm")
    again = classified(ViT(**sizes), source, stage, tmp_path / "arm")
    assert not first.training
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), again.parameters(), strict=True))
