"""Small decoders trained on one text, for the experiment: their losses on the way and after, the load of experts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from saccade.analysis.routing import load_variation
from saccade.data.text import Source, Split, read_text
from saccade.models.shakespeare_lm import character_tokenizer
from saccade.nn.routing import record_routing
from saccade.train.causal import CausalStage, CausalTask, held_out_nats
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim, OptimiserKind

M = TypeVar("M", bound=nn.Module)
LOG_EVERY, SMOOTH = 10, 5  # steps of a record; records in a mean
Curve = list[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the trainings and of the timing.

    batches, rates   texts in a batch, and learning rates, of the comparison of optimisers; the best by the first seed
    batch            of the other trainings
    windows          held-out texts whose loss is measured
    cached, blocks   tokens kept, and widths, heads, latents and channels that turn, of the attention that is timed
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    source: Source = "shakespeare"
    width: int = 64
    depth: int = 2
    heads: int = 4
    experts: int = 14
    top: int = 2
    steps: int = 200
    length: int = 64
    batches: tuple[int, ...] = (4, 16)
    rates: tuple[float, ...] = (3e-3, 1e-2, 3e-2)
    batch: int = 16
    windows: int = 256
    cached: int = 1024
    blocks: tuple[int, int, int, int] = (512, 8, 256, 64)
    rounds: int = 20

    @property
    def sizes(self) -> dict[str, Any]:
        """Of a model."""
        return {"width": self.width, "depth": self.depth, "heads": self.heads}


@cache
def tokens(source: Source, split: Split) -> Int[Tensor, " all"]:
    """A text by its characters."""
    return torch.tensor(character_tokenizer()(read_text(source, split), verbose=False).input_ids)


def optim(kind: OptimiserKind, rate: float, muon_rate: float | None = None) -> Optim:
    """A constant rate, one for both optimisers unless Muon has its own; AdamW's decay and betas as in Moonlight."""
    return Optim(
        kind=kind, lr=rate, muon_lr=muon_rate or rate, flatten=True, betas=(0.9, 0.95), weight_decay=0.1, warmup=0.05,
        cooldown=0.0,
    )  # fmt: skip


def trained(model: M, settings: Settings, how: Optim, batch: int, seed: int, folder: Path) -> M:
    """The model with averaged weights; all of one seed see the same texts."""
    config = Fit(
        steps=settings.steps, seed=seed, precision="no", decay=0.98, log_every=LOG_EVERY, save_every=10**9,
        sheet_every=10**9, optim=how,
    )  # fmt: skip
    stage = CausalStage(fit=config, length=settings.length, batch=batch)
    fit(CausalTask(model, tokens(settings.source, "train"), stage), config, folder, cpu=True)
    return model.eval()


def loss(model: nn.Module, settings: Settings) -> float:
    """Nats a token on held-out text."""
    held = tokens(settings.source, "held-out")
    return float(held_out_nats(model, held, length=settings.length, windows=settings.windows).mean())


def curve(folder: Path) -> Curve:
    """Step and mean nats of the training texts, each seen for the first time, over the last records."""
    rows = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
    nats = [row["nats"] for row in rows]
    means = [fmean(nats[max(0, i + 1 - SMOOTH) : i + 1]) for i in range(len(nats))]
    return [(row["step"], mean) for row, mean in zip(rows, means, strict=True)]


def share_of_steps(found: Sequence[tuple[int, float]], target: float) -> float:
    """Steps until a curve is as low as `target`, between records by a straight line, over all; 1 where it never is."""
    last = found[-1][0]
    for (before, high), (after, low) in zip(found, found[1:], strict=False):
        if low <= target:
            return (before + (after - before) * min(1.0, max(0.0, (high - target) / (high - low)))) / last
    return 1.0


@torch.no_grad()
def variation_of_load(model: nn.Module, settings: Settings) -> float:
    """Spread of the experts' loads over their mean, on held-out text; the mean over blocks."""
    held = tokens(settings.source, "held-out")[: 64 * settings.length].view(64, -1)
    with record_routing(model) as found:
        model(held)
    counts = [calls[0].index.flatten().bincount(minlength=calls[0].probs.shape[-1]) for calls in found.values()]
    return float(load_variation(torch.stack(counts)[:, None]).mean())
