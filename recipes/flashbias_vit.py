"""A small vision transformer with a learned relative-position table per head, and what factoring the tables costs."""

import io
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.cli.printing import Told
from saccade.core.biases import LowRank
from saccade.data import scenes
from saccade.mechanisms.bias_table import by_offset
from saccade.ops.factored_attention import attention_with_factors
from saccade.ops.svd_factors import Factors, svd_factors

WIDTH, HEADS, DEPTH, PATCH, SIDE, BATCH, STEPS, RATE = 48, 4, 2, 4, 32, 64, 500, 3e-3
GRID = (SIDE // PATCH, SIDE // PATCH)
TOKENS = GRID[0] * GRID[1]
ENERGIES, RULES, MAX_RANK = (0.9, 0.95, 0.99, 0.995, 0.999), ("drop", "mix"), 16
CIFAR, DRAWN = (20_000, 2_000), (3_000, 500)  # pictures to train on and to test with
Data = tuple[Tensor, Tensor]  # (n 3 32 32) in [-1, 1], (n) labels


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
    source, train, test = _pictures()
    torch.manual_seed(0)
    model = Classifier(int(train[1].max()) + 1)
    losses = _train(model, train, told)
    told(STEPS, STEPS, "factoring")
    dense = _accuracy(model, test)
    rows = [_factored(model, test, dense, energy, rule) for rule in RULES for energy in ENERGIES]
    ranks = [list(_factors(a, 0.995, "drop").ranks) for a in model.attention]
    high = [f"layer {i} head {h}: {r}" for i, layer in enumerate(ranks) for h, r in enumerate(layer) if r > MAX_RANK]
    return {
        "pictures": source, "train": len(train[1]), "test": len(test[1]), "tokens": TOKENS, "steps": STEPS,
        "width": WIDTH, "depth": DEPTH, "heads": HEADS, "final_loss": float(np.mean(losses[-50:])),
        "dense_accuracy": dense, "rows": rows, "ranks_at_0.995": ranks, "beyond_max_rank_16": high,
    }  # fmt: skip


def _train(model: Classifier, data: Data, told: Told) -> list[float]:
    tables = [a.table for a in model.attention]
    rest = [p for name, p in model.named_parameters() if not name.endswith("table")]
    optimiser = torch.optim.AdamW(
        [{"params": rest, "lr": RATE}, {"params": tables, "lr": 10 * RATE, "weight_decay": 0.0}]
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [RATE, 10 * RATE], total_steps=STEPS)
    generator, losses = torch.Generator().manual_seed(1), []
    for step in range(STEPS):
        told(step, STEPS, "training")
        chosen = torch.randint(len(data[1]), (BATCH,), generator=generator)
        images = data[0][chosen]
        loss = F.cross_entropy(model(images if step % 2 else images.flip(-1)), data[1][chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def _factored(model: Classifier, test: Data, dense: float, energy: float, rule: str) -> dict[str, Any]:
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
def _accuracy(model: Classifier, test: Data) -> float:
    right = [
        (model(x).argmax(-1) == y).float().sum() for x, y in zip(test[0].split(500), test[1].split(500), strict=True)
    ]
    return float(torch.stack(right).sum() / len(test[1]))


def _pictures() -> tuple[str, Data, Data]:
    """CIFAR-10 where it can be read, or synthetic scenes of one shape."""
    folder = Path(os.environ.get("SACCADE_DATA", "")) / "cifar10"
    if (folder / "train.parquet").is_file() and find_spec("pyarrow") is not None:
        return "CIFAR-10", _cifar(folder / "train.parquet", CIFAR[0]), _cifar(folder / "test.parquet", CIFAR[1])
    return "scenes", _scenes(DRAWN[0], seed=0), _scenes(DRAWN[1], seed=1)


def _cifar(path: Path, count: int) -> Data:
    import pyarrow.parquet as parquet

    table = parquet.read_table(path)
    chosen = np.random.default_rng(0).permutation(table.num_rows)[:count]
    columns = table.take(chosen).to_pydict()
    images = [np.asarray(Image.open(io.BytesIO(i["bytes"])).convert("RGB")) for i in columns["image"]]
    return _tensor(images), torch.tensor(columns["label"])


def _scenes(count: int, seed: int) -> Data:
    """One thing; the label is its shape and size."""
    rng = np.random.default_rng(seed)
    labels = [f"{shape} {size}" for shape in scenes.SHAPES for size in scenes.SIZES]
    made = [scenes.sample(rng, count=1) for _ in range(count)]
    found = [labels.index(f"{s.things[0].shape} {s.things[0].size}") for s in made]
    return _tensor([scenes.render(s, SIDE) for s in made]), torch.tensor(found)


def _tensor(images: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
