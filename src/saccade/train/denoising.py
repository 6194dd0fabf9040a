"""A `Task` for any denoiser: any objective on any source of labelled pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from saccade.data.labelled import Source
from saccade.nn.steering import muon_names
from saccade.train.checks import check_positive, check_share
from saccade.train.judging import Evaluation, null_condition, sample_sheet
from saccade.train.loop import Fit
from saccade.train.objectives import Objective
from saccade.train.optimisers import Optim
from saccade.train.settings import named


@dataclass(frozen=True, kw_only=True)
class ArchitectureStage:
    """`batch`: rows of a step, over all processes. `drop`: share of conditions replaced by none, for guidance."""

    fit: Fit = field(default_factory=lambda: Fit(minutes=30, precision="no", optim=Optim(cooldown=0.3)))
    batch: int = 64
    drop: float = 0.1

    def __post_init__(self) -> None:
        check_share(drop=self.drop)
        check_positive(batch=self.batch)


class ArchitectureLoss(nn.Module):
    """The losses of a batch under an objective."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return self.objective.loss(self.model, batch["x"], batch["condition"], batch["t"], batch["noise"])


class ArchitectureTask:
    """A `Task`: any `model(x, t, condition)`, an objective, a source of pictures."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        source: Source,
        stage: ArchitectureStage | None = None,
        evaluation: Evaluation | None = None,
    ) -> None:
        self.module = ArchitectureLoss(model, objective)
        self.model, self.objective, self.source = model, objective, source
        self.stage, self.evaluation = stage or ArchitectureStage(), evaluation or Evaluation()

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the options of the loop."""
        source = {name: getattr(self.source, name) for name in ("side", "channels", "classes")}
        stage = {"batch": self.stage.batch, "drop": self.stage.drop}
        return {"model": named(self.model, "config"), "objective": named(self.objective), "source": source} | stage

    def batch(self, rng: np.random.Generator) -> dict[str, Any]:
        n = self.stage.batch
        x, condition = self.source.batch(rng, n)
        gone = torch.from_numpy(rng.random(n) < self.stage.drop)
        return {
            "x": x,
            "condition": _where(gone, null_condition(self.source, condition), condition),
            "t": self.objective.draw(rng, n),
            "noise": torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)),
        }

    def uses_muon(self, name: str) -> bool:
        """Whether it lies in a row of blocks, and does not belong to what steers them."""
        return name in self._muon

    @cached_property
    def _muon(self) -> frozenset[str]:
        return muon_names(self.module)

    def sheet(self) -> UInt8[np.ndarray, "h w 3"]:
        """Samples of classes spread over all, with guidance."""
        return sample_sheet(self.model, self.objective, self.source, self.evaluation)


def _where(rows: Tensor, yes: Any, no: Any) -> Any:
    """Rows of `yes` where `rows` says so, else of `no`; tensors, or dictionaries of them."""
    if isinstance(no, Mapping):
        return {name: _where(rows, yes[name], value) for name, value in no.items()}
    return torch.where(rows.view(-1, *[1] * (no.ndim - 1)), yes, no)
