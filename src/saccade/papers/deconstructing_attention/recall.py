"""Associative recall: pairs of a key and its value, then the same pairs in another order, values to be recalled.

What a value is can only be known from where it stood before: a model whose tokens do not mix stays at chance.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.eval_mode import eval_mode
from saccade.nn.steering import muon_names
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat


@dataclass(frozen=True, kw_only=True)
class Recall:
    """`pairs` of the `keys` there are stand in a text; as many values as keys; sizes of the model and its training."""

    keys: int = 8
    pairs: int = 6
    depth: int = 2
    width: int = 32
    heads: int = 2
    steps: int = 250
    batch: int = 32
    texts: int = 512
    optim: Optim = field(default_factory=lambda: Optim(lr=3e-3, muon_lr=1e-2))

    @property
    def sizes(self) -> dict[str, Any]:
        """Options of a model."""
        sizes = {"depth": self.depth, "width": self.width, "heads": self.heads}
        return {**sizes, "vocabulary": 2 * self.keys, "ffn": f"swiglu(hidden={2 * self.width})"}

    def draw(self, rng: np.random.Generator, texts: int) -> Int[Tensor, "b n"]:
        """Texts of twice the pairs; keys are numbers below `keys`, values those above."""
        keys = rng.permuted(np.tile(np.arange(self.keys), (texts, 1)), axis=1)[:, : self.pairs]
        values = self.keys + rng.integers(self.keys, size=keys.shape)
        again = rng.permuted(np.tile(np.arange(self.pairs), (texts, 1)), axis=1)
        halves = [np.stack((keys, values), axis=-1)]
        halves.append(np.take_along_axis(halves[0], again[..., None], axis=1))
        return torch.from_numpy(np.concatenate(halves, axis=1).reshape(texts, -1))

    def logits(self, model: nn.Module, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b pairs v"]:
        """What the model says at the keys of the second half."""
        return model(ids[:, :-1]).out[:, 2 * self.pairs :: 2]

    def accuracy(self, model: nn.Module, folder: Path, seed: int) -> float:
        """Train a fresh model, or go on; the share of values it then finds in texts that are always the same."""
        config = Fit(steps=self.steps, precision="no", decay=0.99, seed=seed, sheet_every=10**9, optim=self.optim)
        fit(RecallTask(model, self), config, folder, cpu=True)
        ids = self.draw(np.random.default_rng(10**6), self.texts)
        with torch.no_grad(), eval_mode(model):
            return float((self.logits(model, ids).argmax(-1) == self.wanted(ids)).float().mean())

    def wanted(self, ids: Int[Tensor, "b n"]) -> Int[Tensor, "b pairs"]:
        """The values of the second half."""
        return ids[:, 2 * self.pairs + 1 :: 2]


class RecallLoss(nn.Module):
    """Cross-entropy of the values of the second half."""

    def __init__(self, model: nn.Module, recall: Recall) -> None:
        super().__init__()
        self.model, self.recall = model, recall

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = self.recall.logits(self.model, batch["ids"])
        return {"loss": F.cross_entropy(logits.flatten(0, 1), self.recall.wanted(batch["ids"]).flatten())}


class RecallTask:
    """A `Task`: tell values."""

    def __init__(self, model: nn.Module, recall: Recall) -> None:
        self.module, self.recall = RecallLoss(model, recall), recall
        self._muon = muon_names(self.module)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model."""
        return flat(self.recall)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"ids": self.recall.draw(rng, self.recall.batch)}

    def uses_muon(self, name: str) -> bool:
        return name in self._muon

    def sheet(self) -> None:
        return None
