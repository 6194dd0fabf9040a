"""The arms: every sparse system with one option to turn, and how dense a whole run becomes by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from math import isnan
from typing import Any

import torch

from saccade.attach import attach
from saccade.core.catalogue import lookup
from saccade.core.layout import Layout
from saccade.core.mechanism import System
from saccade.core.site import at
from saccade.models.attention_alone import Attention
from saccade.studies.speed.systems import StepKind, SystemCases, chosen_density, densities, kinds

START = 0.25  # share of the steps that are dense at first, where a system has or is given such a start
WIDTH = 16  # channels of a head, where only pairs are counted
SHARES = tuple(i / 50 for i in range(1, 50))


@dataclass(frozen=True, kw_only=True)
class Knob:
    """A system's options but one, and the values that one may have, rising or falling with the density."""

    label: str
    system: str
    option: str
    values: tuple[float, ...]
    options: Mapping[str, Any]

    def nearest(self, density: float, layout: Layout, steps: int, heads: int) -> tuple[System, float]:
        """The system whose density over a run comes nearest, found by bisection, and that density."""

        @cache
        def found(place: int) -> tuple[System, float]:
            system = lookup(self.system).load()(**self.options, **{self.option: self.values[place]})
            return system, run_density(system, layout, steps, heads)

        low, high = 0, len(self.values) - 1
        rising = found(low)[1] < found(high)[1]
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if (found(middle)[1] < density) == rising else (low, middle)
        return min(found(low), found(high), key=lambda each: abs(each[1] - density))


def knobs(side: int) -> tuple[Knob, ...]:
    """For pictures of `side` x `side` tokens; blocks are as small as so few tokens ask for."""
    late, patch = at(during=(START, 1.0)), max(side // 8, 1)
    radii = tuple(1 + i / 4 for i in range(6 * side))
    disc = partial(Knob, system="clear", option="radius", values=radii)
    return (
        disc(label="CLEAR", options={}),
        disc(label="CLEAR, dense start", options={"where": late}),
        Knob(label="Scale-DiT's window, dense start", system="scale_dit", option="window",
             values=tuple(range(1, 2 * side)), options={"where": late}),
        Knob(label="Re-ttention", system="re_ttention", option="keep", values=SHARES, options={"dense": START / 2}),
        Knob(label="SparseD", system="sparsed", option="keep", values=SHARES,
             options={"block": 32, "skip": START, "queries": 8}),
        Knob(label="AdaSpa", system="adaspa", option="sparsity", values=tuple(s for s in SHARES if s > 1 / 3),
             options={"block": 32, "searches": (START, 0.6)}),
        Knob(label="DraftAttention", system="draft_attention", option="sparsity", values=SHARES,
             options={"pool": (patch, patch), "skip": START}),
        Knob(label="VMoBA", system="vmoba", option="k", values=tuple(range(1, (side // patch) ** 2)),
             options={"tile": (patch, patch), "select": "topk", "skip": START}),
    )  # fmt: skip


@torch.inference_mode()
def run_density(system: System, layout: Layout, steps: int, heads: int) -> float:
    """Mean share of pairs over the steps of a run, on random queries and keys; steps of one plan are counted once."""
    cases, generator = SystemCases(heads=heads, width=WIDTH, steps=steps), torch.Generator().manual_seed(0)
    model, x = Attention(heads, WIDTH), torch.randn(1, layout.n, 3 * heads * WIDTH, generator=generator)
    found = kinds(system, cases)
    with attach(model, system, layout=layout, heads=heads) as run:

        def forward(step: int) -> object:
            run.step(step, of=steps)
            return model(x)

        walk = sorted({step for kind in found for step in (kind.first, kind.again)})
        said = densities(run, {f"{step}": partial(forward, step) for step in walk})

    def share(kind: StepKind) -> float:
        known = said[f"{kind.again}"]
        return chosen_density(system, kind.again, cases, model.operands(x), layout) if isnan(known) else known

    dense = steps - sum(kind.count for kind in found)
    return (dense + sum(kind.count * share(kind) for kind in found)) / steps
