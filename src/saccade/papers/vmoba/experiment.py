"""What alternating blocks bring to a small video model at an equal share of pairs, and what they cost a dense one.

kept      share of pairs kept against tau, on random gates of different concentration
training  a small video DiT of moving shapes, trained dense and with a quarter of the pairs: runs of frames alone
          (MoBA), all three kinds of blocks, and one kind left out; then blocks put into the dense one untrained
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.layout import Grid
from saccade.experiments import Bench, Experiment, Row
from saccade.nn.eval_mode import eval_mode
from saccade.papers.vmoba.sections import CLAIMS, DENSE, FRAMES, GLOBAL, LOCAL, NO_BOXES, NO_TILES, OURS, SECTIONS
from saccade.papers.vmoba.selection import Threshold, choose_pairs
from saccade.papers.vmoba.system import VMoBA
from saccade.papers.vmoba.video_dit import VideoDiT, VideoTask, Watching, look, motion, render
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of all arms alike.

    grid       latent frames, rows and columns of tokens; patch: pixels of a token
    blocks     of a size: frames | tile | box; k of them for each query
    videos     to train on; held: held-out ones that are judged, at each of `times`
    taus       shares of the summed gates; chunks, queries: of the random gates
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 90
    batch: int = 8
    width: int = 48
    depth: int = 3
    heads: int = 4
    grid: Grid = (8, 4, 4)
    patch: int = 8
    frames: float = 1
    tile: tuple[int, int] = (1, 2)
    box: tuple[int, int, int] = (4, 2, 2)
    k: int = 2
    tau: float = 0.25
    videos: int = 128
    held: int = 32
    times: tuple[float, ...] = (0.3, 0.6)
    taus: tuple[float, ...] = (0.15, 0.25, 0.35, 0.5, 0.75)
    chunks: int = 24
    queries: int = 960

    @property
    def arms(self) -> dict[str, VMoBA | None]:
        """What each is trained with."""
        frames, tile, box = {"frames": self.frames}, {"tile": self.tile}, {"box": self.box}
        return {
            DENSE: None,
            FRAMES: self.chosen("query_head", **frames),
            OURS: self.chosen("head_global", **frames, **tile, **box),
            NO_TILES: self.chosen("head_global", **frames, **box),
            NO_BOXES: self.chosen("head_global", **frames, **tile),
        }

    @property
    def swapped(self) -> dict[str, VMoBA]:
        """What is put into the dense model."""
        blocks: dict[str, Any] = {"frames": self.frames, "tile": self.tile, "box": self.box}
        return {LOCAL: self.chosen("query_head", **blocks), GLOBAL: VMoBA(**blocks, tau=self.tau)}

    def chosen(self, scope: Any, **blocks: Any) -> VMoBA:
        """k blocks for each query, on average over those that compete."""
        return VMoBA(select="topk", scope=scope, k=self.k, **blocks)


EXPERIMENT = Experiment(
    name="vmoba",
    settings=Settings(),
    quick=Settings(
        seeds=(0,), steps=2, batch=2, width=24, depth=3, heads=2, videos=4, held=2, times=(0.5,), taus=(0.25,),
        chunks=4, queries=40,
    ),
    hours=0.1,
    sections=SECTIONS,
    claims=CLAIMS,
)  # fmt: skip


@EXPERIMENT.part()
def kept(bench: Bench[Settings]) -> Iterable[Row]:
    """Of pairs, by how unequal the gates are."""
    chunks, queries = bench.settings.chunks, bench.settings.queries
    own = torch.arange(queries) * chunks // queries == torch.arange(chunks)[:, None]
    for name, gate in gates_by_concentration(chunks, queries).items():
        for tau in bench.settings.taus:
            free, forced = (
                float(choose_pairs(gate, own, Threshold(tau=tau, forced_own=forced)).float().mean())
                for forced in (False, True)
            )
            yield {"gates": name, "tau": tau, "free": free, "forced": forced}


def gates_by_concentration(chunks: int, queries: int, heads: int = 4) -> dict[str, Tensor]:
    """Random gates (1 h c s), from even ones to a few that hold most of the sum."""
    normal = torch.randn(1, heads, chunks, queries, generator=torch.Generator().manual_seed(0))
    even = torch.special.ndtr(normal)
    return {"uniform": even, "normal": normal, "exponential": -(1 - even).log(), "log-normal": normal.exp()}


@EXPERIMENT.part(per_seed=True, tables=True)
def training(bench: Bench[Settings]) -> Iterable[Row]:
    """Every arm by this seed, and blocks put into the dense one."""
    settings, seed = bench.settings, bench.seed
    frames, side = settings.grid[0], settings.grid[1] * settings.patch
    videos = render(settings.videos, frames=frames, side=side, seed=seed)
    held = render(settings.held, frames=frames, side=side, seed=1000, split="held-out")
    for number, (arm, system) in enumerate(settings.arms.items()):
        bench.progress(number, len(settings.arms), arm)
        model = fresh(settings, seed)
        with attached(model, system):
            fit(VideoTask(model, videos, settings.batch), schedule(settings, seed), bench.work / f"{number}-{seed}")
        yield {"table": "runs", "arm": arm, **judged(model, system, held, settings.times)}
        if system is None:
            yield from swaps(model, held, settings)


def fresh(settings: Settings, seed: int) -> VideoDiT:
    """The same weights for every arm of a seed."""
    torch.manual_seed(seed)
    return VideoDiT(
        settings.grid, width=settings.width, depth=settings.depth, heads=settings.heads, patch=settings.patch
    )


def schedule(settings: Settings, seed: int) -> Fit:
    """The training of every arm."""
    optim = Optim(lr=5e-3, muon_lr=1.5e-2, flatten=True, cooldown=0.4)
    return Fit(steps=settings.steps, seed=seed, precision="no", decay=0.95, optim=optim)


def attached(model: VideoDiT, *systems: Any) -> AbstractContextManager[Any]:
    """A model with systems, those that are none left out."""
    found = [system for system in systems if system is not None]
    return attach(model, *found, layout=model.layout) if found else nullcontext()


def judged(model: VideoDiT, system: VMoBA | None, held: Tensor, times: Iterable[float]) -> dict[str, Any]:
    """Loss, motion of what is guessed as a share of the videos' own, and pairs kept: means over times."""
    shares = list[float]()
    watch = None if system is None else Watching(system, shares)
    with eval_mode(model), attached(model, system, watch):
        found = [look(model, held, time) for time in times]
    ratios = [motion(seen.guess) / motion(held) for seen in found]
    return {
        "loss": sum(seen.loss for seen in found) / len(found),
        "motion": sum(ratios) / len(ratios),
        "kept": sum(shares) / len(shares) if shares else 1.0,
    }


def swaps(model: VideoDiT, held: Tensor, settings: Settings) -> Iterable[Row]:
    """What the dense model loses where it attends to blocks, and how much the change flickers from frame to frame."""
    with eval_mode(model):
        dense = [look(model, held, time).guess for time in settings.times]
    for name, system in settings.swapped.items():
        with eval_mode(model), attached(model, system):
            changed = [look(model, held, time).guess for time in settings.times]
        flicker = [motion(a - b) / motion(held) for a, b in zip(changed, dense, strict=True)]
        found = judged(model, system, held, settings.times)
        yield {"table": "swaps", "arm": name, "flicker": sum(flicker) / len(flicker), **found}
