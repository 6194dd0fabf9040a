"""A picture classifier trained as one arm of an experiment, and how well it does on what it was not trained on."""

from pathlib import Path
from typing import TypeVar

from torch import nn

from saccade.data.labelled import Source
from saccade.train.classifier import ClassifierStage, ClassifierTask, held_out
from saccade.train.loop import fit

M = TypeVar("M", bound=nn.Module)


def fitted_classifier(model: M, source: Source, stage: ClassifierStage, folder: Path) -> M:
    """The model after its training, with averaged weights, in evaluation.

    Runs on the CPU; a training that `folder` holds goes on where it stopped, a finished one at its end.
    """
    fit(ClassifierTask(model, source, stage), stage.fit, folder, cpu=True)
    return model.eval()


def held_out_scores(model: nn.Module, source: Source, pictures: int) -> dict[str, float]:
    """`loss`, nats a picture, and `accuracy`, the share of labels found, over held-out pictures."""
    nats, right = held_out(model, source, pictures)
    return {"loss": float(nats.mean()), "accuracy": float(right.float().mean())}
