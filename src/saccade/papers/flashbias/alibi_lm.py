"""A character model with ALiBi, trained three times from one seed: dense bias, factors, factors of the other sign."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.biases import LowRank
from saccade.data import scenes
from saccade.experiments import Row
from saccade.experiments.experiment import Progress
from saccade.ops.exact_factors import alibi_slopes, linear_factors, reversed_linear_factors
from saccade.ops.factored_attention import attention_with_factors

WIDTH, HEADS, DEPTH, CONTEXT, BATCH, RATE = 64, 4, 2, 128, 16, 3e-3
HELD_OUT, VALIDATION_BATCHES = 0.1, 16
FIRST = 20  # steps over which the gap is reported apart
ARMS = ("dense", "factors", "flipped")


class Attention(nn.Module):
    """Causal attention with ALiBi; `arm` says how the bias is computed, and with which sign."""

    def __init__(self, arm: str) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        order, slopes = torch.arange(CONTEXT).float(), alibi_slopes(HEADS).float()
        make = reversed_linear_factors if arm == "flipped" else linear_factors
        self.factors = make(slopes, order, order)
        ahead = torch.ones(CONTEXT, CONTEXT).triu(1).bool()
        written = slopes[:, None, None] * (order - order[:, None])
        self.written = written.masked_fill(ahead, -torch.inf)[None] if arm == "dense" else None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if self.written is None:
            out = attention_with_factors(q, k, v, LowRank(self.factors.phi_q, self.factors.phi_k), causal=True)
        else:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.written)
        return self.out(out.transpose(1, 2).flatten(2))


class Model(nn.Module):
    """Pre-norm blocks over characters, no other position than the bias."""

    def __init__(self, characters: int, arm: str) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(characters, WIDTH), nn.Linear(WIDTH, characters)
        self.attention = nn.ModuleList(Attention(arm) for _ in range(DEPTH))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)) for _ in range(DEPTH)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(F.layer_norm(x, (WIDTH,)))
            x = x + mlp(F.layer_norm(x, (WIDTH,)))
        return self.head(F.layer_norm(x, (WIDTH,)))


def arms(steps: int, progress: Progress) -> Iterable[Row]:
    """In the table "language" each arm's loss on held-out text and at the end of training, in nats per character.

    In the table "text" what was read, and how far the losses of the dense and the factored arm lie apart.
    """
    source, codes, characters = _text()
    cut = int(len(codes) * (1 - HELD_OUT))
    curves: dict[str, list[float]] = {}
    for number, arm in enumerate(ARMS):
        torch.manual_seed(0)
        model = Model(characters, arm)
        report = partial(_report, progress, number * steps, len(ARMS) * steps, arm)
        curves[arm] = _train(model, codes[:cut], steps, report)
        yield {"table": "language", "arm": arm, "held_out": _validate(model, codes[cut:]), "last": curves[arm][-1]}
    apart = [abs(a - b) for a, b in zip(curves["dense"], curves["factors"], strict=True)]
    yield {"table": "text", "text": source, "first_gap": max(apart[:FIRST]), "largest_gap": max(apart)}


def _report(progress: Progress, before: int, total: int, arm: str, step: int) -> None:
    progress(before + step, total, arm)


def _train(model: Model, codes: Tensor, steps: int, report: Callable[[int], None]) -> list[float]:
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    generator, losses = torch.Generator().manual_seed(1), []
    for step in range(steps):
        report(step)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 30) * (1 - 0.9 * step / steps)
        loss = _loss(model, codes, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def _validate(model: Model, codes: Tensor) -> float:
    generator = torch.Generator().manual_seed(2)
    return float(np.mean([_loss(model, codes, generator).item() for _ in range(VALIDATION_BATCHES)]))


def _loss(model: Model, codes: Tensor, generator: torch.Generator) -> Tensor:
    starts = torch.randint(len(codes) - CONTEXT - 1, (BATCH,), generator=generator)
    windows = torch.stack([codes[s : s + CONTEXT + 1] for s in starts.tolist()])
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())


def _text() -> tuple[str, Tensor, int]:
    """Tiny Shakespeare, or captions of synthetic scenes; as numbers, and how many characters there are."""
    path = Path(os.environ.get("SACCADE_DATA", "")) / "tinyshakespeare" / "input.txt"
    if path.is_file():
        source, text = "tiny Shakespeare", path.read_text()
    else:
        source, text = "scene captions", "\n".join(p.text for p in scenes.prompts(4000, seed=0))
    alphabet = {c: i for i, c in enumerate(sorted(set(text)))}
    return source, torch.tensor([alphabet[c] for c in text]), len(alphabet)
