"""A small vision transformer with a learned relative-position table per head, and what factoring the tables costs."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.biases import LowRank
from saccade.data.labelled import Labelled, Pictures, open_cifar10, open_scenes
from saccade.ops.factored_attention import attention_with_factors
from saccade.ops.svd_factors import Factors, svd_factors
from saccade.papers.flashbias.bias_table import by_offset
from saccade.ui.progress import Told

WIDTH, HEADS, DEPTH, PATCH, SIDE, BATCH, STEPS, RATE = 48, 4, 2, 4, 32, 64, 500, 3e-3
GRID = (SIDE // PATCH, SIDE // PATCH)
TOKENS = GRID[0] * GRID[1]
ENERGIES, RULES, MAX_RANK = (0.9, 0.95, 0.99, 0.995, 0.999), ("drop", "mix"), 16
TESTED = 4_000  # pictures


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

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).mT
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(F.layer_norm(x, (WIDTH,)))
            x = x + mlp(F.layer_norm(x, (WIDTH,)))
        return self.head(F.layer_norm(x, (WIDTH,)).amax(dim=1))


def run(told: Told) -> dict[str, Any]:
    """Accuracy dense and at each energy, ranks per head, and which heads are not low-rank."""
    name, source = _pictures()
    torch.manual_seed(0)
    model, test = Classifier(source.classes), source.held_out(TESTED)
    losses = _train(model, source, told)
    told(STEPS, STEPS, "factoring")
    dense = _accuracy(model, test)
    rows = [_factored(model, test, dense, energy, rule) for rule in RULES for energy in ENERGIES]
    ranks = [list(_factors(a, 0.995, "drop").ranks) for a in model.attention]
    high = [f"layer {i} head {h}: {r}" for i, layer in enumerate(ranks) for h, r in enumerate(layer) if r > MAX_RANK]
    return {
        "pictures": name, "train": len(source.train), "test": TESTED, "tokens": TOKENS, "steps": STEPS,
        "width": WIDTH, "depth": DEPTH, "heads": HEADS, "final_loss": float(np.mean(losses[-50:])),
        "dense_accuracy": dense, "rows": rows, "ranks_at_0.995": ranks, "beyond_max_rank_16": high,
    }  # fmt: skip


def _train(model: Classifier, source: Pictures, told: Told) -> list[float]:
    tables = [a.table for a in model.attention]
    rest = [p for name, p in model.named_parameters() if not name.endswith("table")]
    optimiser = torch.optim.AdamW(
        [{"params": rest, "lr": RATE}, {"params": tables, "lr": 10 * RATE, "weight_decay": 0.0}]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [RATE, 10 * RATE], total_steps=STEPS)
    rng, losses = np.random.default_rng(1), []
    for step in range(STEPS):
        told(step, STEPS, "training")
        images, labels = source.batch(rng, BATCH)
        loss = F.cross_entropy(model(images if step % 2 else images.flip(-1)), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def _factored(model: Classifier, test: Labelled, dense: float, energy: float, rule: str) -> dict[str, Any]:
    found = [_factors(a, energy, rule) for a in model.attention]
    for attention, factors in zip(model.attention, found, strict=True):
        attention.factors = factors.bias
    accuracy = _accuracy(model, test)
    for attention in model.attention:
        attention.factors = None
    ranks = [r for f in found for r in f.ranks]
    return {
        "row_means": "taken out" if rule == "drop" else "left in (published rule)", "energy": energy,
        "accuracy": accuracy, "drop_points": 100 * (dense - accuracy), "mean_rank": float(np.mean(ranks)),
        "max_rank": max(ranks), "rel_err": max(f.rel_err for f in found),
    }  # fmt: skip


def _factors(attention: nn.Module, energy: float, rule: str) -> Factors:
    return svd_factors(by_offset(attention.table.detach(), GRID), energy=energy, means=rule)  # type: ignore[arg-type]


@torch.no_grad()
def _accuracy(model: Classifier, test: Labelled) -> float:
    right = [
        (model(x).argmax(-1) == y).float().sum() for x, y in zip(test[0].split(500), test[1].split(500), strict=True)
    ]
    return float(torch.stack(right).sum() / len(test[1]))


def _pictures() -> tuple[str, Pictures]:
    """CIFAR-10 where it can be read, or synthetic scenes of one thing whose shape is told."""
    try:
        return "CIFAR-10", open_cifar10(SIDE)
    except (FileNotFoundError, ImportError):
        return "scenes", open_scenes(SIDE, label="shape")
