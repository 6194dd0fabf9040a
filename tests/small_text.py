"""A small classifier in float64 and a batch of sentences of different lengths, one of a single word."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from saccade.models.text_classifier import TextClassifier
from saccade.nn.classification import classification_loss

LENGTHS = (6, 8, 1, 4, 3)
LABELS = torch.tensor([1, 0, 1, 1, 0])


def classifier(seed: int = 0, **changes: Any) -> TextClassifier:
    torch.manual_seed(seed)
    model = TextClassifier(**{"words": 30, "width": 6, "hidden": 5, "inner": 4, **changes}).double()
    for name, weight in model.named_parameters():
        if "attention" in name or "head" in name:
            weight.data.mul_(4)  # so that scores differ
    return model


def batch(seed: int = 0, lengths: tuple[int, ...] = LENGTHS, more: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 30, (len(lengths), max(lengths)), generator=generator)
    there = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.nn.functional.pad(ids * there, (0, more))


def loss_of(labels: Tensor = LABELS, weight: float = 0.7) -> Callable[[Tensor], Tensor]:
    return partial(classification_loss, labels=labels, weight=weight)
