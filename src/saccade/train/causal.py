"""Predict the next token: the loss, the task, and what a model makes of a text it never saw."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.architecture import Prediction
from saccade.nn.eval_mode import eval_mode
from saccade.nn.steering import muon_names
from saccade.train.checks import check_positive
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class CausalStage:
    """`length`: of a text, in tokens; `batch`: how many of them a step takes.

    Raises ValueError for options out of range.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=1500, precision="no", decay=0.99, sheet_every=10**9, optim=Optim(lr=3e-3, muon_lr=1e-2)
        )
    )
    length: int = 128
    batch: int = 16

    def __post_init__(self) -> None:
        check_positive(length=self.length, batch=self.batch)


class CausalLoss(nn.Module):
    """Mean nats a token, with the model's auxiliary losses; `nats` is without them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        found: Prediction = self.model(batch["ids"][:, :-1])
        nats = F.cross_entropy(found.out.float().flatten(0, 1), batch["ids"][:, 1:].flatten())
        return {"loss": nats + sum(found.losses.values()), "nats": nats, **found.losses}


class CausalTask:
    """A `Task`: tell the next token in windows of one long text.

    model   answers `model(ids) -> Prediction` with logits
    Raises ValueError for fewer tokens than a window has.
    """

    def __init__(self, model: nn.Module, ids: Int[Tensor, " all"], stage: CausalStage) -> None:
        if len(ids) <= stage.length:
            raise ValueError(f"ids holds {len(ids)} tokens, too few for length={stage.length} and one that follows")
        self.module, self.ids, self.stage = CausalLoss(model), ids, stage
        self._muon = muon_names(self.module)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> Batch:
        starts = torch.from_numpy(rng.integers(len(self.ids) - self.stage.length, size=self.stage.batch))
        return {"ids": self.ids[starts[:, None] + torch.arange(self.stage.length + 1)]}

    def uses_muon(self, name: str) -> bool:
        return name in self._muon

    def sheet(self) -> None:
        return None


@torch.no_grad()
def held_out_nats(
    model: nn.Module, ids: Int[Tensor, " all"], *, length: int, windows: int = 64, batch: int = 16
) -> Float[Tensor, " windows"]:
    """Mean nats a token of each of `windows` stretches, spread evenly over a text that was held out.

    Raises ValueError for fewer tokens than a window has.
    """
    if len(ids) <= length:
        raise ValueError(f"ids holds {len(ids)} tokens, too few for length={length} and one that follows")
    starts = torch.linspace(0, len(ids) - length - 1, windows).long()
    found = []
    with eval_mode(model):
        for part in starts.split(batch):
            texts = ids[part[:, None] + torch.arange(length + 1)]
            logits = model(texts[:, :-1]).out.float()
            found.append(F.cross_entropy(logits.mT, texts[:, 1:], reduction="none").mean(1))
    return torch.cat(found)
