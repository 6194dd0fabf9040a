"""A classifier as an arm of an experiment: trained once, and scored on what it was not trained on."""

from pathlib import Path

import torch
from torch import nn

from saccade.data.labelled import open_scenes
from saccade.experiments.classifier import fitted_classifier, held_out_scores
from saccade.models import ViT
from saccade.train.classifier import ClassifierStage
from saccade.train.loop import Fit

SOURCE = open_scenes(16, label="shape", count=8, held=24)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    def model() -> ViT:
        torch.manual_seed(0)
        return ViT(depth=1, width=8, heads=2, patch=8, side=16, classes=4)

    stage = ClassifierStage(batch=4, fit=Fit(steps=2, precision="no"))
    first, again = (fitted_classifier(model(), SOURCE, stage, tmp_path) for _ in range(2))
    assert not first.training
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.head.weight, model().head.weight)


class Certain(nn.Module):
    """Says the first label, whatever it sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([100.0, 0, 0, 0]).expand(len(x), 4)


def test_scores_are_means_over_held_out_pictures() -> None:
    share = float((SOURCE.held_out(24)[1] == 0).float().mean())
    scores = held_out_scores(Certain(), SOURCE, 24)
    assert abs(scores["accuracy"] - share) < 1e-6 and abs(scores["loss"] - 100 * (1 - share)) < 1e-3
