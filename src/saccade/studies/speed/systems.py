"""What attention takes under a sparse system beside dense attention, by number of tokens, choosing pairs included.

A model of one attention layer goes through the steps of a run. Steps with equal plans are of one kind; each kind is
timed where it first comes, when it may have to prepare, and once more, in turn with dense attention. From the medians a
whole run is put together. Each system has its own density.

sparse      mean milliseconds of a sparse step as it comes again, all that is chosen inside it included
selecting   milliseconds a sparse step has to bear for what chose its pairs: what steps that are not sparse take beyond
            dense attention, and what first steps take beyond later ones
efficiency  dense / sparse x density; 1: no more time than the pairs' share
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import isnan, log
from typing import Any

import torch
from torch import Tensor

from saccade.attach import Run, attach
from saccade.core.call import plain_call
from saccade.core.catalogue import lookup
from saccade.core.clock import Clock
from saccade.core.layout import Grid, Layout
from saccade.core.mechanism import Mechanism, System
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.experiments import Row
from saccade.metrics.stopwatch import in_turn, measure
from saccade.models.attention_alone import Attention
from saccade.papers.scale_dit import anchored
from saccade.papers.vmoba.chosen_chunks import ChosenChunks

PICTURE = {4096: (1, 64, 64), 16384: (1, 128, 128), 32768: (1, 128, 256)}
VIDEO = {4096: (4, 32, 32), 16384: (16, 32, 32), 32768: (32, 32, 32)}
WHOLE = 0.999  # a density from which on a step counts as dense


@dataclass(frozen=True, kw_only=True)
class Timed:
    """A system by its name in the catalogue, its options, and the tokens it is timed on by the grids they lie on."""

    system: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    grids: Mapping[int, Grid] = field(default_factory=lambda: PICTURE)
    layout: Callable[[Grid], Layout] = Layout.image_only

    def make(self) -> System:
        """The system."""
        return lookup(self.system).load()(**self.options)


def with_anchor(grid: Grid) -> Layout:
    """A picture and its copy at a quarter of the side."""
    _, high, wide = grid
    return anchored(text=0, high=(high, wide), low=(high // 4, wide // 4))


SYSTEMS: dict[str, Timed] = {
    "clear": Timed(system="clear", options={"radius": 8}),
    "scale_dit": Timed(system="scale_dit", layout=with_anchor),
    "re_ttention": Timed(system="re_ttention", grids=VIDEO),
    "sparsed": Timed(system="sparsed", options={"keep": 0.1, "queries": 3}),
    "adaspa": Timed(system="adaspa", grids=VIDEO),
    "draft_attention": Timed(system="draft_attention", grids=VIDEO),
    "vmoba": Timed(system="vmoba", options={"box": (4, 8, 8), "skip": 0.25}, grids=VIDEO),
}


@dataclass(frozen=True, kw_only=True)
class SystemCases:
    """What is measured: each of `systems` at each number of `tokens`, `steps` of a run, every kind `rounds` times.

    Raises ValueError for a system or number of tokens that is not known.
    """

    systems: tuple[str, ...] = tuple(SYSTEMS)
    tokens: tuple[int, ...] = tuple(PICTURE)
    heads: int = 2
    width: int = 64
    steps: int = 50
    rounds: int = 3
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, chosen, known in (("system", self.systems, SYSTEMS), ("tokens", self.tokens, PICTURE)):
            if unknown := [each for each in chosen if each not in known]:
                raise ValueError(f"{name}={unknown[0]!r} must be one of {', '.join(map(str, known))}")

    def cases(self) -> dict[str, Callable[[], list[Row]]]:
        """By name."""
        return {f"{name} {n}": partial(system_row, name, n, self) for n in self.tokens for name in self.systems}


@dataclass(frozen=True, kw_only=True)
class StepKind:
    """Steps of one plan: the first of them, the second where there is one, and how many there are."""

    first: int
    again: int
    count: int


@torch.inference_mode()
def system_row(name: str, n: int, cases: SystemCases) -> list[Row]:
    """One row: milliseconds of dense attention, of a sparse step, and of what chooses its pairs; density; memory."""
    timed, generator = SYSTEMS[name], torch.Generator().manual_seed(0)
    layout, system = timed.layout(timed.grids[n]), timed.make()
    x = torch.randn(1, layout.n, 3 * cases.heads * cases.width, generator=generator).to(cases.device)
    plain, model = (Attention(cases.heads, cases.width) for _ in range(2))
    found = kinds(system, cases)
    steps = sorted({step for kind in found for step in (kind.first, kind.again)})
    with attach(model, system, layout=layout, heads=cases.heads) as run:
        walk = {f"{step}": partial(_step, run, model, x, step, cases.steps) for step in steps}
        dense_at = densities(run, walk)
        for kind in found:
            if isnan(dense_at[str(kind.again)]):
                dense_at[str(kind.again)] = chosen_density(system, kind.again, cases, model.operands(x), layout)
        seconds = in_turn({"dense": partial(plain, x), **walk}, cases.rounds, device=x.device)
        idle, peak = measure(lambda: None).peak_bytes, measure(walk[str(steps[-1])]).peak_bytes
        dense_peak = measure(partial(plain, x)).peak_bytes
    ms = {arm: 1e3 * statistics.median(times) for arm, times in seconds.items()}
    about = {"system": name, "options": dict(timed.options), "tokens": layout.n, "dense_ms": ms["dense"]}
    memory = {
        "extra_bytes": None if idle is None or peak is None else peak - idle,
        "dense_bytes": None if idle is None or dense_peak is None else dense_peak - idle,
    }
    return [about | summary(found, ms, dense_at) | memory]


def kinds(system: System, cases: SystemCases) -> list[StepKind]:
    """The kinds of steps of a run in which the system does something."""
    site = Site(name="attention", heads=cases.heads)
    plans = [(system.plan(site, Clock(step=step, num_steps=cases.steps)), step) for step in range(cases.steps)]
    distinct = {plan: [step for other, step in plans if other == plan] for plan, _ in plans if plan}
    return [StepKind(first=s[0], again=s[min(1, len(s) - 1)], count=len(s)) for s in distinct.values()]


def densities(run: Run, walk: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Share of pairs of each step, from the report's mean before and after."""
    found, before = {}, 0.0
    for number, (step, work) in enumerate(walk.items(), 1):
        work()
        total = run.report().density * number
        found[step], before = total - before, total
    return found


def chosen_density(
    system: System, step: int, cases: SystemCases, operands: tuple[Tensor, Tensor, Tensor], layout: Layout
) -> float:
    """Share of pairs that mechanisms choose in this very call, for reports that cannot say."""
    call, found = plain_call(*operands, layout=layout), 1.0
    for item in system.plan(Site(name="attention", heads=cases.heads), Clock(step=step, num_steps=cases.steps)):
        if isinstance(item, ChosenChunks):
            found *= float(item.choose(call).float().mean())
        elif isinstance(item, Mechanism) and (mask := item.pairs(call, Memory()).mask) is not None:
            found *= mask.bind(layout, layout, call.q.device).density()
    return found


def summary(found: list[StepKind], ms: Mapping[str, float], density: Mapping[str, float]) -> Row:
    """A whole run's sparse steps, from the medians of each kind."""
    sparse = [kind for kind in found if density[str(kind.again)] < WHOLE]
    others = [kind for kind in found if kind not in sparse]
    steps = sum(kind.count for kind in sparse)
    shares = [kind.count / steps for kind in sparse]
    again = sum(share * ms[str(kind.again)] for share, kind in zip(shares, sparse, strict=True))
    mean = sum(share * density[str(kind.again)] for share, kind in zip(shares, sparse, strict=True))
    first = sum(max(ms[str(kind.first)] - ms[str(kind.again)], 0.0) for kind in sparse)
    finding = sum(kind.count * max(ms[str(kind.again)] - ms["dense"], 0.0) for kind in others)
    with_selection = again + (first + finding) / steps
    return {
        "density": mean, "sparse_steps": steps, "sparse_ms": again, "selecting_ms": with_selection - again,
        "speedup": ms["dense"] / again, "speedup_with_selection": ms["dense"] / with_selection,
        "efficiency": ms["dense"] / again * mean, "efficiency_with_selection": ms["dense"] / with_selection * mean,
    }  # fmt: skip


def slope(rows: list[Row]) -> float | None:
    """Of log time over log tokens, by least squares; 1 is linear. None below two lengths."""
    if len(rows) < 2:
        return None
    x, y = ([log(row[name]) for row in rows] for name in ("tokens", "sparse_ms"))
    return statistics.linear_regression(x, y).slope


def _step(run: Run, model: Attention, x: Tensor, step: int, of: int) -> object:
    run.step(step, of=of)
    return model(x)
