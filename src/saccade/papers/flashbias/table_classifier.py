"""A small vision transformer with a learned relative-position table per head, and what factoring the tables costs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.biases import LowRank
from saccade.data.labelled import Labelled, Pictures, open_cifar10, open_scenes
from saccade.experiments import Row
from saccade.experiments.experiment import Progress
from saccade.ops.factored_attention import attention_with_factors
from saccade.ops.svd_factors import Factors, svd_factors
from saccade.papers.flashbias.bias_table import by_offset

WIDTH, HEADS, DEPTH, PATCH, SIDE, BATCH, RATE = 48, 4, 2, 4, 32, 64, 3e-3
GRID = (SIDE // PATCH, SIDE // PATCH)
TOKENS = GRID[0] * GRID[1]
ENERGIES, MAX_RANK = (0.9, 0.95, 0.99, 0.995, 0.999), 16
RULES = {"drop": "taken out", "mix": "left in (published rule)"}  # what becomes of the tables' row means


class Attention(nn.Module):
    """Self-attention with a table by offset per head, its only notion of place; `factors`, once set, replace it."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.table = nn.Parameter(torch.zeros(HEADS, 2 * GRID[0] - 1, 2 * GRID[1] - 1))
        self.factors: LowRank | None = None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if self.factors is None:
            out = (q @ k.mT * q.shape[-1] ** -0.5 + by_offset(self.table, GRID)).softmax(-1) @ v
        else:
            out = attention_with_factors(q, k, v, self.factors)
        return self.out(out.transpose(1, 2).flatten(2))


class Classifier(nn.Module):
    """Patches, pre-norm blocks, the largest value over tokens."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, WIDTH, PATCH, PATCH), nn.Linear(WIDTH, classes)
        self.attention = nn.ModuleList(Attention() for _ in range(DEPTH))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)) for _ in range(DEPTH)
        )

    @property
    def layers(self) -> list[Attention]:
        """The attention of each layer."""
        return cast(list[Attention], list(self.attention))

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).mT
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(F.layer_norm(x, (WIDTH,)))
            x = x + mlp(F.layer_norm(x, (WIDTH,)))
        return self.head(F.layer_norm(x, (WIDTH,)).amax(dim=1))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A classifier, and the held-out pictures it is tested on."""

    model: Classifier
    test: Labelled

    def right(self) -> int:
        """How many of the test pictures it recognises."""
        images, labels = (part.split(500) for part in self.test)
        with torch.no_grad():
            return sum(int((self.model(x).argmax(-1) == y).sum()) for x, y in zip(images, labels, strict=True))


def trained(source: Pictures, *, steps: int, tested: int, progress: Progress) -> Trained:
    """A new classifier after `steps`."""
    torch.manual_seed(0)
    model = Classifier(source.classes)
    _train(model, source, steps, progress)
    return Trained(model=model, test=source.held_out(tested))


def factored(found: Trained) -> Iterable[Row]:
    """With the tables factored, by rule and energy: pictures recognised, columns, and the worst relative error."""
    for rule, row_means in RULES.items():
        for energy in ENERGIES:
            yield {"row_means": row_means, "energy": energy, **_factored(found, energy, rule)}


def columns(model: Classifier, energy: float = 0.995) -> Iterable[Row]:
    """Each head needs, row means taken out."""
    for layer, attention in enumerate(model.layers):
        for head, rank in enumerate(_factors(attention, energy, "drop").ranks):
            yield {"layer": layer, "head": head, "rank": rank}


def opened(pictures: str, scenes: int) -> tuple[str, Pictures]:
    """CIFAR-10 where it is asked for and can be read, else `scenes` of one object whose shape is the label."""
    if pictures == "CIFAR-10":
        try:
            return pictures, open_cifar10(SIDE)
        except (FileNotFoundError, ImportError):
            pass
    return "scenes", open_scenes(SIDE, label="shape", count=scenes, held=max(scenes // 4, 1))


def _train(model: Classifier, source: Pictures, steps: int, progress: Progress) -> None:
    tables = [a.table for a in model.layers]
    rest = [p for name, p in model.named_parameters() if not name.endswith("table")]
    optimiser = torch.optim.AdamW(
        [{"params": rest, "lr": RATE}, {"params": tables, "lr": 10 * RATE, "weight_decay": 0.0}]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [RATE, 10 * RATE], total_steps=steps)
    rng = np.random.default_rng(1)
    for step in range(steps):
        progress(step, steps, "training")
        images, labels = source.batch(rng, BATCH)
        loss = F.cross_entropy(model(images if step % 2 else images.flip(-1)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _factored(found: Trained, energy: float, rule: str) -> Row:
    layers = [_factors(attention, energy, rule) for attention in found.model.layers]
    for attention, factors in zip(found.model.layers, layers, strict=True):
        attention.factors = factors.bias
    right = found.right()
    for attention in found.model.layers:
        attention.factors = None
    ranks = [rank for factors in layers for rank in factors.ranks]
    error = max(factors.rel_err for factors in layers)
    return {"right": right, "mean_rank": float(np.mean(ranks)), "max_rank": max(ranks), "rel_err": error}


def _factors(attention: Attention, energy: float, rule: str) -> Factors:
    return svd_factors(by_offset(attention.table.detach(), GRID), energy=energy, means=rule)  # type: ignore[arg-type]
