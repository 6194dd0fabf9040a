"""A small language model of characters with a router, trained, and its routing of held-out text at two late steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.data.text import CHARACTERS, Source, Split, read_text
from saccade.nn.eval_mode import eval_mode
from saccade.nn.routing import Routing, record_routing
from saccade.papers.graph_moe.fluctuation import decision_entropy, diversity, fluctuation, load_shares
from saccade.papers.graph_moe.model import RoutedLM
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of the training and of the held-out text.

    early, late   steps between which choices are compared
    length        of a window in characters; `held`: windows that are held out
    swapped       share of the characters that change places for the second loss
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    early: int = 360
    late: int = 400
    depth: int = 4
    width: int = 96
    length: int = 128
    batch: int = 16
    held: int = 64
    swapped: float = 0.05
    corpus: Source = "shakespeare"


class NextCharacter(nn.Module):
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

    def __init__(self, model: RoutedLM, ids: Int[Tensor, " all"], settings: Settings) -> None:
        self.module, self.ids, self.sizes = NextCharacter(model), ids, settings

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        length = self.sizes.length
        starts = torch.from_numpy(rng.integers(len(self.ids) - length, size=self.sizes.batch))
        return {"ids": self.ids[starts[:, None] + torch.arange(length + 1)]}

    def uses_muon(self, name: str) -> bool:
        return "blocks." in name and "router" not in name

    def sheet(self) -> None:
        return None


def router_rows(ffn: str, settings: Settings, seed: int, folder: Path) -> Iterable[dict[str, Any]]:
    """The losses at the end; then for each layer how steady, sure and even its choices are."""
    torch.manual_seed(seed)
    mixer = "attention(rotary=True, return_trace=True)"
    model = RoutedLM(words=len(CHARACTERS), depth=settings.depth, width=settings.width, mixer=mixer, ffn=ffn)
    task = TextTask(model, characters(settings.corpus, "train"), settings)
    held = windows(characters(settings.corpus, "held-out"), settings)
    train(task, settings.early, seed, folder / "early")
    early = routed(model, held)
    go_on(folder / "early", folder / "late")
    train(task, settings.late, seed, folder / "late")
    loss, with_swaps = (nll(model, ids) for ids in (held, swapped(held, settings.swapped)))
    yield {"table": "losses", "loss": loss, "swapped": with_swaps, "cost": with_swaps - loss}
    for layer, (before, after) in enumerate(zip(early, routed(model, held), strict=True)):
        yield {
            "table": "routing", "layer": layer,
            "fluctuation": float(fluctuation(before, after)), "entropy": float(decision_entropy(after)),
            "largest_load": float(load_shares(after).max()), "diversity": float(diversity(after)),
        }  # fmt: skip


def train(task: TextTask, steps: int, seed: int, folder: Path) -> None:
    """Until a step, from what the folder holds."""
    optim = Optim(lr=2e-3, muon_lr=1e-2, flatten=True, cooldown=0.0)
    fit(task, Fit(steps=steps, seed=seed, precision="no", decay=0.0, optim=optim), folder, cpu=True)


def go_on(old: Path, new: Path) -> None:
    """Let a training in the new folder begin where the old one ended, unless it has begun."""
    new.mkdir(parents=True, exist_ok=True)
    if not (new / "checkpoint.pt").exists():
        copyfile(old / "checkpoint.pt", new / "checkpoint.pt")


@torch.no_grad()
def routed(model: RoutedLM, ids: Int[Tensor, "b n"]) -> list[Routing]:
    """Each layer's routing of the text."""
    torch.manual_seed(0)
    with eval_mode(model), record_routing(model) as found:
        model(ids[:, :-1])
    return [calls[0] for calls in found.values()]


@torch.no_grad()
def nll(model: RoutedLM, ids: Int[Tensor, "b n"]) -> float:
    """Nats a character."""
    torch.manual_seed(0)
    with eval_mode(model):
        out = model(ids[:, :-1]).out
    return float(F.cross_entropy(out.flatten(0, 1), ids[:, 1:].flatten()))


def swapped(ids: Int[Tensor, "b n"], share: float) -> Int[Tensor, "b n"]:
    """That share of the characters replaced by others of the text."""
    noise = torch.Generator().manual_seed(0)
    chosen = torch.rand(ids.shape, generator=noise) < share
    return torch.where(chosen, ids.flatten()[torch.randperm(ids.numel(), generator=noise)].view_as(ids), ids)


def windows(ids: Int[Tensor, " all"], settings: Settings) -> Int[Tensor, "b n"]:
    """Spread evenly over a text, each with the character after it."""
    starts = torch.linspace(0, len(ids) - settings.length - 1, settings.held).long()
    return ids[starts[:, None] + torch.arange(settings.length + 1)]


@cache
def characters(corpus: Source, split: Split) -> Int[Tensor, " all"]:
    """A text as numbers of its characters; those that are unknown count as the first."""
    return torch.tensor([CHARACTERS.find(character) for character in read_text(corpus, split)]).clamp(min=0)
