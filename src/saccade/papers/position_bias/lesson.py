"""Train a self-attention network on retrieval, and ask which of two places it prefers."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.eval_mode import eval_mode
from saccade.papers.position_bias.retrieval import PLACES, Place, Questions, Retrieval, World
from saccade.papers.position_bias.san import SAN

Batch = dict[str, Tensor]


class SANLoss(nn.Module):
    """Cross-entropy of the label asked."""

    def __init__(self, model: SAN) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self.model(batch["x"]), batch["label"])}


class Lesson:
    """A `train.Task`: fresh texts of one world in every batch; what decides the result is in `settings`."""

    def __init__(self, model: SAN, task: Retrieval, world: World, batch: int) -> None:
        self.module, self.task, self.world, self.size = SANLoss(model), task, world, batch

    @property
    def settings(self) -> dict[str, object]:
        """What decides the result beside the model."""
        return {"task": repr(self.task), "batch": self.size}

    def batch(self, rng: np.random.Generator) -> Batch:
        return self.task.draw(self.world, rng, self.size)._asdict()

    def uses_muon(self, name: str) -> bool:
        return False

    def sheet(self) -> None:
        return None


def accuracy(model: SAN, asked: Questions) -> float:
    """Share of right labels."""
    with eval_mode(model), torch.no_grad():
        return float((model(asked.x).argmax(-1) == asked.label).double().mean())


def preferences(
    model: SAN, task: Retrieval, world: World, *, texts: int, seed: int = 0
) -> Iterator[tuple[Place, Place, float]]:
    """For each two places how much the earlier one is preferred: the accuracy where it is right less that where the
    later one is. Texts are of novel classes: fresh means and labels of each class.
    """
    rng = np.random.default_rng(seed)
    novel = task.world(rng, known=world)
    for early, late in combinations(PLACES, 2):
        one = accuracy(model, task.conflict(novel, rng, texts, early, late))
        yield early, late, one - accuracy(model, task.conflict(novel, rng, texts, late, early))
