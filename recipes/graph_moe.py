"""Routing by a graph of tokens on a small language model: steadiness, certainty, loss, and what swapped words cost.

    python recipes/graph_moe.py --work runs/graph-moe --out docs/results/graph-moe.json

Hardware: one CPU core, about a minute and a half for an arm and seed. Tiny Shakespeare by the character, read from
SACCADE_DATA, without it captions. What is in the work folder is not run again. `recipes/graph_moe_page.py` puts the
figures into docs/papers/graph_moe.md.
Expected: between two late checkpoints fewer tokens change their experts than under a plain router, decisions are surer,
the loss is not worse and swapped characters cost less; means over a window or by lot do less.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data.text import CHARACTERS, Split, read_text
from saccade.metrics.machine import device_name, versions
from saccade.nn.moe import MoE
from saccade.nn.part import TokenPositions
from saccade.nn.registry import feedforward
from saccade.nn.routing import Routing, record_routing
from saccade.papers.graph_moe import RoutedLM
from saccade.papers.graph_moe.fluctuation import decision_entropy, diversity, fluctuation, load_shares
from saccade.papers.graph_moe.token_graph import Mean, masked_softmax, visible
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

LENGTH, BATCH, EARLY, LATE = 128, 16, 360, 400
WINDOW, HELD, SWAPPED = 4, 64, 0.05
ROUTED = "experts=8, top=2, kind='relu', hidden=96, balance=0.01"
ARMS = {
    "plain": f"moe({ROUTED}, shared=0, norm_topk=True)",
    "similarity": f"similar_moe({ROUTED})",
    "attention": f"attention_moe({ROUTED})",
    "window": f"given_moe({ROUTED}, by='window')",
    "by lot": f"given_moe({ROUTED}, by='lot')",
}


@feedforward("given_moe")
class GivenMoE(MoE):
    """Experts chosen by a mean over tokens that nobody learns.

    by   "window": the token and the three before it, alike; "lot": any tokens, by weights drawn anew each time
    """

    def __init__(self, width: int, *, by: Literal["window", "lot"], **options: Any) -> None:
        super().__init__(width, **{"norm_topk": True, "shared": 0, **options})
        self.by = by

    def route(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Routing:
        tokens = x.shape[1]
        if self.by == "window":
            apart = torch.arange(tokens)[:, None] - torch.arange(tokens)
            scores = torch.zeros(len(x), tokens, tokens).masked_fill((apart < 0) | (apart >= WINDOW), -torch.inf)
        else:
            scores = 2 * torch.randn(len(x), tokens, tokens)
        weights = masked_softmax(scores, visible(place, tokens, x.device))
        return self.router(x, mixing=Mean(weights), keep=place.keep)


class NextWord(nn.Module):
    """The loss of a batch of text."""

    def __init__(self, model: RoutedLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        ids = batch["ids"]
        logits, losses = self.model(ids[:, :-1])
        nll = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        return {"loss": nll + sum(losses.values()), "nll": nll, **losses}


class TextTask:
    """A `Task`: windows of one text."""

    def __init__(self, model: RoutedLM, ids: Int[Tensor, " all"]) -> None:
        self.module, self.ids = NextWord(model), ids

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        starts = torch.from_numpy(rng.integers(len(self.ids) - LENGTH, size=BATCH))
        return {"ids": self.ids[starts[:, None] + torch.arange(LENGTH + 1)]}

    def uses_muon(self, name: str) -> bool:
        return "blocks." in name and "router" not in name

    def sheet(self) -> None:
        return None


def run(work: Path, seeds: tuple[int, ...], arms: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """A row an arm, seed and layer; the losses repeat over layers."""
    train, held = (text(split) for split in ("train", "held-out"))
    for seed in seeds:
        for arm in arms:
            path = work / f"{arm.replace(' ', '-')}-{seed}" / "rows.json"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(rows(arm, seed, train, held, path.parent)))
            yield from json.loads(path.read_text())


def rows(arm: str, seed: int, train: Tensor, held: Tensor, folder: Path) -> list[dict[str, Any]]:
    """Train, routing the same held-out text at two late steps."""
    torch.manual_seed(seed)
    model = RoutedLM(words=len(CHARACTERS), width=96, mixer="attention(rotary=True, return_trace=True)", ffn=ARMS[arm])
    task, found = TextTask(model, train), []
    for steps in (EARLY, LATE):
        optim = Optim(lr=2e-3, muon_lr=1e-2, flatten=True, cooldown=0.0)
        config = Fit(steps=steps, seed=seed, precision="no", decay=0.0, save_every=EARLY, optim=optim)
        fit(task, config, folder)
        (folder / "average.safetensors").unlink()
        found.append(routed(model, held))
    losses = {"loss": nll(model, held), "swapped": nll(model, swapped(held))}
    return [
        {
            "arm": arm, "seed": seed, "layer": layer, **losses,
            "fluctuation": float(fluctuation(a, b)), "first_choice": float(fluctuation(a, b, top=1)),
            "entropy": float(decision_entropy(b)), "own_entropy": float(own),
            "largest_load": float(load_shares(b).max()), "diversity": float(diversity(b)),
        }
        for layer, ((a, _), (b, own)) in enumerate(zip(*found, strict=True))
    ]  # fmt: skip


@torch.no_grad()
def routed(model: RoutedLM, ids: Int[Tensor, "b n"]) -> list[tuple[Routing, Tensor]]:
    """Each layer's routing of the text, and the entropy of what its router says of tokens alone."""
    torch.manual_seed(0)
    alone: list[Tensor] = []
    gates = [block.ffn.router.gate for block in model.eval().blocks]
    handles = [
        gate.register_forward_hook(lambda _, __, out: alone.append(torch.special.entr(out.softmax(-1)).sum(-1).mean()))
        for gate in gates
    ]
    with record_routing(model) as found:
        model(ids[:, :-1])
    for handle in handles:
        handle.remove()
    model.train()
    return list(zip((calls[0] for calls in found.values()), alone, strict=True))


@torch.no_grad()
def nll(model: RoutedLM, ids: Int[Tensor, "b n"]) -> float:
    """Nats a character."""
    torch.manual_seed(0)
    out = model.eval()(ids[:, :-1]).out
    model.train()
    return float(F.cross_entropy(out.flatten(0, 1), ids[:, 1:].flatten()))


def swapped(ids: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Some characters changed places with others of the text."""
    noise = torch.Generator().manual_seed(0)
    chosen = torch.rand(ids.shape, generator=noise) < SWAPPED
    return torch.where(chosen, ids.flatten()[torch.randperm(ids.numel(), generator=noise)].view_as(ids), ids)


def text(split: Split) -> Tensor:
    """Numbers of characters: all of the training text, windows of the held-out one."""
    source = "shakespeare" if os.environ.get("SACCADE_DATA") else "captions"
    ids = torch.tensor([CHARACTERS.find(character) for character in read_text(source, split)])
    ids = ids.clamp(min=0)
    if split == "train":
        return ids
    starts = torch.linspace(0, len(ids) - LENGTH - 1, HELD).long()
    return ids[starts[:, None] + torch.arange(LENGTH + 1)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/graph-moe"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/graph-moe.json"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    figures = {
        "rows": list(run(given.work, tuple(given.seeds), tuple(ARMS))), "steps": [EARLY, LATE], "swapped": SWAPPED,
        "length": LENGTH, "batch": BATCH, "device": device_name("cpu"), "versions": versions(),
    }  # fmt: skip
    given.out.write_text(json.dumps(figures, indent=1) + "\n")
