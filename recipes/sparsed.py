"""What SparseD leaves of a small masked-diffusion language model: likeness of maps, quality by density, early and late.

    python recipes/sparsed.py --out docs/results/sparsed-lm.json
    python recipes/sparsed.py --out docs/results/sparsed-lm.json --model /path/to/model --prompts 4 --only arms

Hardware: one CPU core, about ten minutes for all parts. Prompts are windows of the held-out tenth of tiny Shakespeare,
read from SACCADE_DATA; without it, of synthetic captions. `recipes/sparsed_page.py` puts the figures into
docs/papers/sparsed.md.
Expected: the attention of a head changes less from step to step than from head to head; SparseD near dense in the
likelihood of its text, a window of equal density and a pattern from the first step worse; sparse early steps cost more
than sparse late ones.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, Pairs, PlanItem, System
from saccade.core.partial import Parts
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.data.text import read_text
from saccade.metrics import agreement, masked_bound
from saccade.metrics.machine import device_name, versions
from saccade.models import path
from saccade.papers.sparsed import SparseD
from saccade.papers.sparsed.frozen_pattern import BlockGrid, FindPattern, FrozenPattern
from saccade.runs import generate
from saccade.ui.progress import Told, progress_bar

PROMPT, LENGTH, STEPS, IN_TURN, BLOCK, KEEP, SEED = 128, 128, 32, 32, 8, 0.3, 0
SWITCHES = (0.125, 0.25, 0.5, 0.75)
DENSITIES = (0.1, 0.2, 0.3, 0.5, 0.7)
DRAWS = 16  # of masked tokens for each text that is scored


@dataclass(frozen=True)
class Dense:
    """Nothing."""

    name: str = "dense"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return ()


@dataclass(frozen=True)
class Between:
    """A pattern found at one step and in use from the step after it, up to `stop`."""

    find: int
    stop: int
    name: str = "between"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if clock.step == self.find:
            return (self._find,)
        return (FrozenPattern(block=BLOCK),) if self.find < clock.step < self.stop else ()

    @cached_property
    def _find(self) -> FindPattern:
        return FindPattern(keep=KEEP, block=BLOCK, generation=LENGTH)


@dataclass(frozen=True)
class OtherHead(FrozenPattern):
    """The pattern of the next head."""

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        return Pairs(mask=BlockGrid(mem.get("blocks").roll(1, dims=1), BLOCK, call.layout_q.n))


@dataclass(frozen=True, kw_only=True)
class Rolled(SparseD):
    """SparseD with every head at the pattern of its neighbour."""

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        items = super().plan(site, clock)
        return (OtherHead(block=BLOCK),) if items and isinstance(items[0], FrozenPattern) else items


@dataclass(frozen=True)
class Window:
    """Blocks near the diagonal, as many for each block of queries as `like` keeps on average, after its dense steps."""

    like: SparseD
    kept: int
    name: str = "window"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self._mask,) if clock.step > self.like.last_dense(clock.num_steps) else ()

    @cached_property
    def _mask(self) -> BlockGrid:
        blocks = (PROMPT + LENGTH) // BLOCK
        at = torch.arange(blocks)
        away = (at[:, None] - at).abs() * 2 - (at[:, None] > at).int()
        near = away.argsort(dim=1, stable=True).argsort(dim=1) < self.kept
        return BlockGrid(near[None, None], BLOCK, PROMPT + LENGTH)


@dataclass(frozen=True, eq=False)
class Watch(Mechanism):
    """Keeps every map, step by step, by site."""

    maps: dict[str, list[Tensor]]

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        self.maps.setdefault(call.site.name, []).append((call.q @ call.k.mT * call.scale).softmax(-1)[0].half())


@dataclass(frozen=True)
class Watching:
    """Watch every site."""

    watch: Watch
    name: str = "watching"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.watch,)


class Bench:
    """A model, its prompts, and what dense attention writes."""

    def __init__(self, place: Path, prompts: int) -> None:
        self.model = AutoModelForMaskedLM.from_pretrained(place).eval()
        tokenizer = AutoTokenizer.from_pretrained(place)
        self.mask_id = tokenizer.mask_token_id
        self.source = "shakespeare" if os.environ.get("SACCADE_DATA") else "captions"
        text = torch.tensor(tokenizer(read_text(self.source, "held-out"), verbose=False).input_ids)
        starts = torch.linspace(0, len(text) - PROMPT, prompts).long()
        self.prompts = text[starts[:, None] + torch.arange(PROMPT)]
        self.seen: list[tuple[Tensor, Tensor]] = []  # what dense attention was given at each step, and made of it
        self.dense = generate(
            self._noted, self.prompts, length=LENGTH, steps=STEPS, block=IN_TURN, mask_id=self.mask_id
        )

    def _noted(self, input_ids: Tensor) -> Tensor:
        logits = self.model(input_ids=input_ids).logits.float()
        self.seen.append((input_ids, logits.log_softmax(-1)))
        return logits

    @torch.no_grad()
    def followed(self, system: System) -> Tensor:
        """KL of its predictions from dense ones at masked places, in nats, when it is given what dense was given."""
        found = []
        with attach(self.model, system) as run:
            for step, (ids, dense) in enumerate(self.seen):
                run.step(step, of=len(self.seen))
                own = self.model(input_ids=ids).logits.float().log_softmax(-1)
                masked = ids == self.mask_id
                found.append(((dense.exp() * (dense - own)).sum(-1) * masked).sum(1) / masked.sum(1))
        return torch.stack(found).mean(0)

    def write(self, system: System, prompts: Tensor | None = None) -> tuple[Tensor, float]:
        """Texts, and the share of pairs the sparse steps kept (1 where there are none)."""
        with attach(self.model, system) as run:
            ids = generate(
                self.model, self.prompts if prompts is None else prompts, length=LENGTH, steps=STEPS, block=IN_TURN,
                mask_id=self.mask_id, on_step=lambda step, of: run.step(step, of=of),
            )  # fmt: skip
            grids = [m.now["blocks"].float().mean().item() for m in run.state.memories.values() if "blocks" in m.now]
        return ids, sum(grids) / len(grids) if grids else 1.0

    def eval_mode(self, label: str, system: System) -> dict[str, Any]:
        """One arm: density, how far its predictions are from dense ones, and of its texts how many characters are dense
        attention's and how surprising dense attention finds them."""
        ids, density = self.write(system)
        if isinstance(system, Window):
            density = system.kept * BLOCK / (PROMPT + LENGTH)
        noise = torch.Generator().manual_seed(SEED)
        bound = masked_bound(self.model, ids, mask_id=self.mask_id, after=PROMPT, draws=DRAWS, generator=noise)
        same, kl = agreement(ids, self.dense, after=PROMPT), self.followed(system)
        spread = _spread("kl", kl) | _spread("agreement", same) | _spread("bound", bound)
        return {"arm": label, "density": density, **spread}


def likeness(bench: Bench, told: Told) -> dict[str, Any]:
    """Cosine of a head's map at one step with its map at another, and with other heads' maps at the same step."""
    told(0, 1, "maps")
    watch = Watch({})
    bench.write(Watching(watch), bench.prompts[:1])
    rows = [_alike(torch.stack(maps)) for maps in watch.maps.values()]
    keys = ("next_step", "first_and_last", "other_heads")
    return {key: sum(row[key] for row in rows) / len(rows) for key in keys} | {"layers": rows}


def _alike(maps: Tensor) -> dict[str, float]:
    flat = torch.nn.functional.normalize(maps.float().flatten(2), dim=-1)  # (t h nn)
    between = flat @ flat.mT
    heads = between.shape[1]
    others = (between.sum((1, 2)) - between.diagonal(dim1=1, dim2=2).sum(1)) / (heads * (heads - 1))
    return {
        "next_step": (flat[1:] * flat[:-1]).sum(-1).mean().item(),
        "first_and_last": (flat[0] * flat[-1]).sum(-1).mean().item(),
        "other_heads": others.mean().item(),
    }


def arms(bench: Bench, told: Told) -> dict[str, Any]:
    """SparseD by density, and what it is without each of its parts."""
    base: dict[str, Any] = {"block": BLOCK, "generation": LENGTH}
    usual = SparseD(keep=KEEP, **base)
    kept = round(bench.write(usual)[1] * (PROMPT + LENGTH) / BLOCK)
    systems: dict[str, System] = {
        "dense": Dense(),
        **{f"SparseD, keep {keep}": SparseD(keep=keep, **base) for keep in DENSITIES},
        "the paper's rule": SparseD(keep=KEEP, select_rule="paper", **base),
        "no isolation": SparseD(keep=KEEP, select_rule="joint", **base),
        "no warm-up": SparseD(keep=KEEP, skip=0, select_rule="paper", **base),
        "one pattern for all heads": SparseD(keep=KEEP, per_head=False, **base),
        "another head's pattern": Rolled(keep=KEEP, **base),
        "window": Window(usual, kept),
    }
    return {"rows": _each(bench, systems, told)}


def switches(bench: Bench, told: Told) -> dict[str, Any]:
    """Sparse after a share of the steps, and sparse up to it."""
    systems: dict[str, System] = {}
    for share in SWITCHES:
        at = round(STEPS * share)
        systems[f"sparse from {share:.1%} on"] = Between(at - 1, STEPS)
        systems[f"sparse up to {share:.1%}"] = Between(0, at)
    return {"rows": _each(bench, systems, told)}


def _each(bench: Bench, systems: dict[str, System], told: Told) -> list[dict[str, Any]]:
    rows = []
    for done, (label, system) in enumerate(systems.items()):
        told(done, len(systems), label)
        rows.append(bench.judged(label, system))
    return rows


def _spread(name: str, values: Tensor) -> dict[str, float]:
    """Mean over texts and its standard error."""
    return {name: values.mean().item(), f"{name}_error": (values.std() / len(values) ** 0.5).item()}


PARTS: dict[str, Callable[[Bench, Told], dict[str, Any]]] = {"likeness": likeness, "arms": arms, "switches": switches}


def main(words: Iterable[str] | None = None) -> None:
    """Run the chosen parts and merge their figures into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file; parts that are not run are kept")
    parser.add_argument("--model", type=Path, default=path("shakespeare-lm"), help="directory of a masked LM")
    parser.add_argument("--prompts", type=int, default=16, help="texts")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)}")
    chosen = parser.parse_args(None if words is None else list(words))
    figures = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    torch.manual_seed(SEED)
    bench = Bench(chosen.model, chosen.prompts)
    for name in chosen.only.split(","):
        start = time.process_time()
        with progress_bar() as told:
            found = PARTS[name](bench, told)
        figures[name] = {**found, "prompts": chosen.prompts, "cpu_s": round(time.process_time() - start, 1)}
    figures["setting"] = {
        "prompt": PROMPT, "answer": LENGTH, "steps": STEPS, "in_turn": IN_TURN, "block": BLOCK, "keep": KEEP,
        "source": bench.source, "model": chosen.model.name, "device": device_name("cpu"), **versions(),
    }  # fmt: skip
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
