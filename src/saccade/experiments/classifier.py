"""A picture classifier trained as one arm of an experiment, and what it is compared by."""

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import nn

from saccade.data.labelled import Pictures, Source, open_source
from saccade.experiments.results import Row
from saccade.nn.eval_mode import eval_mode
from saccade.train.classifier import ClassifierStage, ClassifierTask, held_out
from saccade.train.loop import fit

M = TypeVar("M", bound=nn.Module)


def classified(model: M, source: Source, stage: ClassifierStage, folder: Path) -> M:
    """The model after its training on a CPU, with averaged weights, in evaluation.

    A training that `folder` holds goes on where it stopped, a finished one at its end.
    """
    fit(ClassifierTask(model, source, stage), stage.fit, folder, cpu=True)
    return model.eval()


def scores(model: nn.Module, source: Source, pictures: int) -> Row:
    """Mean cross-entropy of held-out pictures, and the share whose label is found."""
    with eval_mode(model):
        nats, right = held_out(model, source, pictures)
    return {"loss": float(nats.mean()), "accuracy": float(right.float().mean())}


def open_pictures(name: str, side: int, cache: Path) -> Pictures:
    """A source whose pictures lie in memory: "cifar10", kept decoded in `cache`, or "scenes", labelled by kind."""
    options = {"cache": cache} if name == "cifar10" else {"count": 512, "held": 256}
    found = open_source(name, side, **options)
    assert isinstance(found, Pictures)
    return found


def few(source: Pictures, count: int) -> Pictures:
    """The same with a fixed random choice of `count` pictures to train on.

    Raises ValueError for more than there are.
    """
    if not 0 < count <= len(source.train):
        raise ValueError(f"count={count} must be 1 to {len(source.train)}, the number of pictures to train on")
    chosen = np.random.default_rng(0).permutation(len(source.train))[:count]
    return replace(source, train=source.train[chosen], labels=source.labels[chosen])


def trained_on(source: Pictures) -> Pictures:
    """The pictures it trains on as those that are held out, to measure how well they are known."""
    return replace(source, held=source.train, held_labels=source.labels)
