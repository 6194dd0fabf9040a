"""Masked diffusion as LLaDA trains it: predict masked tokens from the rest, whatever their share.

    loss = E_t 1/t sum_{i masked} -log p(x_i | x_t) / n,    t ~ U(0, 1), each of n tokens masked with probability t
         = E_k 1/k sum_{i masked} -log p(x_i | x_k),        k ~ U{1 .. n}, exactly k tokens masked

The second line equals the first, since the integral of t^(k-1) (1-t)^(n-k) over t is 1 / (k choose(n, k)), and varies
less; it is what runs. An opening of random length, never masked, stands for the prompt; n counts what follows it.

Source: Nie et al., "Large language diffusion models" (2025), Eq. 3 and Eq. 6.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.metrics.language import draw_masked
from saccade.train.checks import check_positive, check_share
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat

Batch = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class MaskedStage:
    """`lengths`: of the sequences, one drawn for each batch; `tokens`: in a batch.

    `prompted`: share of the sequences with an unmasked opening, of up to half their length.
    Raises ValueError for options out of range.
    """

    fit: Fit = field(default_factory=lambda: Fit(minutes=60, save_every=100, optim=Optim(lr=2e-3)))
    lengths: tuple[int, ...] = (128, 256)
    tokens: int = 4096
    prompted: float = 0.3
    compile: bool = True

    free: ClassVar[tuple[str, ...]] = ("compile",)

    def __post_init__(self) -> None:
        check_share(prompted=self.prompted)
        check_positive(tokens=self.tokens)
        if not self.lengths or not all(0 < length <= self.tokens for length in self.lengths):
            raise ValueError(f"lengths={self.lengths} must be one or more lengths between 1 and tokens={self.tokens}")


class MaskedLoss(nn.Module):
    """The loss of a batch of masked tokens."""

    def __init__(self, model: nn.Module, mask_id: int, *, compiled: bool) -> None:
        super().__init__()
        self.model, self.mask_id = model, mask_id
        self._run = (torch.compile(model, dynamic=False) if compiled else model,)  # a tuple: no submodule

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        ids, masked = batch["ids"], batch["masked"]
        logits = self._run[0](input_ids=ids.masked_fill(masked, self.mask_id)).logits
        nll = F.cross_entropy(logits.float().flatten(0, 1), ids.flatten(), reduction="none").view_as(ids) * masked
        return {"loss": (nll.sum(1) / masked.sum(1)).mean(), "per_masked": nll.sum() / masked.sum()}


class MaskedTask:
    """A `Task`: fill in the masked tokens of windows of one long text.

    Raises ValueError for fewer tokens than the longest text.
    """

    def __init__(self, model: nn.Module, ids: Int[Tensor, " all"], mask_id: int, stage: MaskedStage) -> None:
        if len(ids) < max(stage.lengths):
            raise ValueError(f"ids holds {len(ids)} tokens, fewer than the longest of lengths={stage.lengths}")
        self.module, self.ids, self.stage = MaskedLoss(model, mask_id, compiled=stage.compile), ids, stage

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        return flat(self.stage)

    def batch(self, rng: np.random.Generator) -> Batch:
        length = int(rng.choice(self.stage.lengths))
        size = self.stage.tokens // length
        starts = torch.from_numpy(rng.integers(len(self.ids) - length + 1, size=size))
        openings = rng.integers(1, length // 2 + 1, size=size) * (rng.random(size) < self.stage.prompted)
        draws = torch.Generator().manual_seed(int(rng.integers(2**63)))
        masked = draw_masked(length, torch.from_numpy(openings), draws)
        return {"ids": self.ids[starts[:, None] + torch.arange(length)], "masked": masked}

    def uses_muon(self, name: str) -> bool:
        return ".layers." in name or ".head.dense" in name

    def sheet(self) -> None:
        return None
