"""Texts that a small masked-diffusion language model writes with sparse attention, beside those of dense attention.

Prompts are windows of the held-out tenth of tiny Shakespeare, read from SACCADE_DATA; without it, of synthetic
captions.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, PlanItem, System
from saccade.core.partial import Parts
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.data.text import read_text
from saccade.experiments import Row
from saccade.metrics import agreement, masked_bound
from saccade.models import path
from saccade.papers.sparsed.ablations import Window
from saccade.papers.sparsed.system import SparseD
from saccade.runs import generate


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What is written.

    texts     how many, each a prompt of `prompt` tokens and an answer of `answer`
    steps     of the run; `in_turn` tokens are filled before the next are begun
    block     tokens of a block; SparseD keeps the share `keep` of them by default, and each of `densities`
    switches  shares of the steps after which, or up to which, attention is sparse
    draws     of masked tokens for each text whose likelihood is bounded
    """

    model: str = "shakespeare-lm"
    texts: int = 16
    prompt: int = 128
    answer: int = 128
    steps: int = 32
    in_turn: int = 32
    block: int = 8
    keep: float = 0.3
    densities: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7)
    switches: tuple[float, ...] = (0.125, 0.25, 0.5, 0.75)
    draws: int = 16

    @property
    def tokens(self) -> int:
        """Of prompt and answer."""
        return self.prompt + self.answer

    def sparsed(self, **options: Any) -> SparseD:
        """The system, by default with the usual share of the blocks."""
        return SparseD(**{"keep": self.keep, "block": self.block, "generation": self.answer, **options})


class Writer:
    """A model and its prompts; `source` names the corpus they are from."""

    def __init__(self, settings: Texts) -> None:
        from transformers import AutoModelForMaskedLM, AutoTokenizer

        self.settings, place = settings, path(settings.model)
        self.model = AutoModelForMaskedLM.from_pretrained(place).eval()
        tokenizer = AutoTokenizer.from_pretrained(place)
        self.mask_id = tokenizer.mask_token_id
        self.source = "shakespeare" if os.environ.get("SACCADE_DATA") else "captions"
        text = torch.tensor(tokenizer(read_text(self.source, "held-out"), verbose=False).input_ids)
        starts = torch.linspace(0, len(text) - settings.prompt, settings.texts).long()
        self.prompts = text[starts[:, None] + torch.arange(settings.prompt)]

    def write(self, model: Any, prompts: Tensor, **options: Any) -> Tensor:
        """Prompts with their answers, by this model or a function in its place."""
        about = self.settings
        return generate(
            model, prompts, length=about.answer, steps=about.steps, block=about.in_turn, mask_id=self.mask_id, **options
        )

    def written(self, system: System, prompts: Tensor) -> tuple[Tensor, float]:
        """Texts with a system attached, and the share of pairs its sparse steps kept, 1 where there are none."""
        with attach(self.model, system) as run:
            ids = self.write(self.model, prompts, on_step=lambda step, of: run.step(step, of=of))
            grids = [m.now["blocks"].float().mean().item() for m in run.state.memories.values() if "blocks" in m.now]
        if isinstance(system, Window):
            return ids, system.density
        return ids, sum(grids) / len(grids) if grids else 1.0


class Judge:
    """How far a system's texts and predictions are from those of dense attention, which it makes once."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.seen: list[tuple[Tensor, Tensor]] = []  # what dense attention was given at each step, and made of it
        self.dense = writer.write(self._noted, writer.prompts)

    def _noted(self, input_ids: Tensor) -> Tensor:
        logits = self.writer.model(input_ids=input_ids).logits.float()
        self.seen.append((input_ids, logits.log_softmax(-1)))
        return logits

    @torch.no_grad()
    def divergence(self, system: System) -> Tensor:
        """KL of its predictions from dense ones at masked places, in nats, on the inputs of dense attention."""
        found, model = [], self.writer.model
        with attach(model, system) as run:
            for step, (ids, dense) in enumerate(self.seen):
                run.step(step, of=len(self.seen))
                own = model(input_ids=ids).logits.float().log_softmax(-1)
                masked = ids == self.writer.mask_id
                found.append(((dense.exp() * (dense - own)).sum(-1) * masked).sum(1) / masked.sum(1))
        return torch.stack(found).mean(0)

    def row(self, system: System) -> Row:
        """Density, how far the predictions are from dense ones, and of the texts how many characters are those of dense
        attention and how surprising it finds them; means over texts with standard errors."""
        writer, about = self.writer, self.writer.settings
        ids, density = writer.written(system, writer.prompts)
        bound = masked_bound(
            writer.model, ids, mask_id=writer.mask_id, after=about.prompt, draws=about.draws,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        same, kl = agreement(ids, self.dense, after=about.prompt), self.divergence(system)
        spread = _spread("kl", kl) | _spread("agreement", same) | _spread("bound", bound)
        return {"source": writer.source, "density": density} | spread


def _spread(name: str, values: Tensor) -> Row:
    """Mean over texts and its standard error."""
    return {name: values.mean().item(), f"{name}_error": (values.std() / len(values) ** 0.5).item()}


@dataclass(frozen=True, eq=False)
class KeepMaps(Mechanism):
    """Keeps every map, step by step, by site."""

    maps: dict[str, list[Tensor]]

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        self.maps.setdefault(call.site.name, []).append((call.q @ call.k.mT * call.scale).softmax(-1)[0].half())


@dataclass(frozen=True)
class WatchMaps:
    """Keep the maps of every site."""

    keep: KeepMaps
    name: str = "watch maps"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.keep,)


def likeness_by_layer(writer: Writer) -> Iterator[Row]:
    """For each layer the mean cosines of its heads' maps, over the steps of one text."""
    keep = KeepMaps({})
    writer.written(WatchMaps(keep), writer.prompts[:1])
    for layer, maps in enumerate(keep.maps.values()):
        yield {"layer": layer} | likeness(torch.stack(maps))


def likeness(maps: Tensor) -> Row:
    """Mean cosines between maps (t h n m), of a head with itself over steps and of heads with each other."""
    flat = F.normalize(maps.float().flatten(2), dim=-1)
    between = flat @ flat.mT
    heads = between.shape[1]
    others = (between.sum((1, 2)) - between.diagonal(dim1=1, dim2=2).sum(1)) / (heads * (heads - 1))
    return {
        "next_step": (flat[1:] * flat[:-1]).sum(-1).mean().item(),
        "first_and_last": (flat[0] * flat[-1]).sum(-1).mean().item(),
        "other_heads": others.mean().item(),
    }
