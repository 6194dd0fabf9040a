"""Train a model to tell the next fixation from those before: the loss, and the task for `train.fit`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.steering import muon_names
from saccade.papers.oat.model import OAT
from saccade.papers.oat.search import Search, special
from saccade.train.checks import check_positive
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class ScanpathStage:
    """`batch`: trials of a step. The paper: AdamW without decay at 1e-4 throughout, batches of 20, clipped to 1.

    Raises ValueError for options out of range.
    """

    fit: Fit = field(
        default_factory=lambda: Fit(
            steps=10000,
            precision="no",
            sheet_every=10**9,
            optim=Optim(kind="adamw", lr=1e-4, betas=(0.9, 0.999), weight_decay=0, warmup=0, cooldown=0, clip=1.0),
        )
    )
    batch: int = 20

    def __post_init__(self) -> None:
        check_positive(batch=self.batch)


def padded(paths: Sequence[Sequence[int] | np.ndarray], objects: int) -> Int64[Tensor, "b t"]:
    """Fixated objects between begin and end, padded to one length.

    Raises ValueError for an empty path, and for an object outside the layout.
    """
    end, pad, begin = special(objects)
    for number, path in enumerate(paths):
        if not len(path) or not 0 <= min(path) <= max(path) < end:
            raise ValueError(f"path {number} must be fixated objects 0 to {end - 1}, at least one; leave others out")
    rows = [torch.tensor([begin, *(int(each) for each in path), end]) for path in paths]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad)


class ScanpathLoss(nn.Module):
    """Mean nats a fixation, the end included, with the model's auxiliary losses."""

    def __init__(self, model: OAT, grid: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.grid = model, grid

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        sequence = batch["sequence"]
        search = Search(grid=self.grid, **{name: value for name, value in batch.items() if name != "sequence"})
        logits, losses = self.model(search, sequence[:, :-1])
        pad = special(search.count).pad
        nats = F.cross_entropy(logits.float().flatten(0, 1), sequence[:, 1:].flatten(), ignore_index=pad)
        return {"loss": nats + sum(losses.values()), "nats": nats.detach(), **losses}


class ScanpathTask:
    """A `Task`: trials, each with its layout.

    trials   tensors by `Search`'s names and "sequence" as `padded` makes it, one row a trial; of "objects", "places"
             and "keep" a row is a layout where "layout" says which one a trial has
    Raises ValueError without any trial.
    """

    def __init__(self, model: OAT, trials: Mapping[str, Tensor], grid: tuple[int, int], stage: ScanpathStage) -> None:
        if not len(trials["sequence"]):
            raise ValueError("trials holds none; give at least one")
        self.module, self.trials, self.stage = ScanpathLoss(model, grid), trials, stage
        self._muon = muon_names(self.module)

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> Batch:
        chosen = torch.from_numpy(rng.integers(len(self.trials["sequence"]), size=self.stage.batch))
        return rows_of(self.trials, chosen)

    def uses_muon(self, name: str) -> bool:
        return name in self._muon

    def sheet(self) -> None:
        return None


def rows_of(trials: Mapping[str, Tensor], chosen: Int64[Tensor, " n"]) -> Batch:
    """Some of the trials, each with its layout."""
    layouts = trials["layout"][chosen] if "layout" in trials else chosen
    by_layout = ("objects", "places", "keep")
    return {name: value[layouts if name in by_layout else chosen] for name, value in trials.items() if name != "layout"}
