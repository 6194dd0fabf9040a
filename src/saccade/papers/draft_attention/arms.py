"""What the experiment puts beside the draft: bands of rows and regions at random, with as many pairs or fewer."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.layout import Grid, Layout
from saccade.core.mechanism import Mechanism, Pairs, PlanItem, System
from saccade.core.places import Band
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.papers.draft_attention.draft import Pool, keep_strongest, patches_along
from saccade.papers.draft_attention.draft_regions import between_patches
from saccade.papers.draft_attention.system import DraftAttention
from saccade.systems.dense import Dense


@dataclass(frozen=True, kw_only=True)
class RandomRegions(Mechanism):
    """As many pairs of regions as a draft keeps, drawn from a seed, the same in every call."""

    sparsity: float
    pool: Pool
    seed: int = 0

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        grid, g = call.layout_q.image.grid, torch.Generator().manual_seed(self.seed)
        assert grid is not None
        count = _count(grid, self.pool)
        values = torch.rand(1, call.q.shape[1], count, count, generator=g).to(call.q.device)
        return Pairs(mask=between_patches(keep_strongest(values, self.sparsity), call, self.pool))


@dataclass(frozen=True, kw_only=True)
class Static:
    """The same items in all steps after the first, dense ones."""

    items: tuple[PlanItem, ...]
    skip: float
    name: str = "static"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return () if site.kind == "cross" or clock.progress < self.skip else self.items


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A system on a grid, and the share of pairs its sparse steps compute."""

    label: str
    sparsity: float
    skip: float
    system: System
    pairs: float


def arms(layout: Layout, pool: Pool, sparsities: tuple[float, ...], skips: tuple[float, ...]) -> Iterator[Arm]:
    """Dense attention, then for each sparsity and share of dense steps the draft and what it is compared with."""
    yield Arm(label="dense", sparsity=0.0, skip=1.0, system=Dense(), pairs=1.0)
    for sparsity in sparsities:
        for skip in skips:
            draft = DraftAttention(sparsity=sparsity, pool=pool, skip=skip)
            share, band = draft.density(layout), widest_band(layout, draft.density(layout))
            random = RandomRegions(sparsity=sparsity, pool=pool)
            yield Arm(label="draft", sparsity=sparsity, skip=skip, system=draft, pairs=share)
            yield Arm(
                label="band", sparsity=sparsity, skip=skip, system=Static(items=(band,), skip=skip),
                pairs=band.bind(layout, layout).density(),
            )  # fmt: skip
            yield Arm(
                label="random", sparsity=sparsity, skip=skip, system=Static(items=(random,), skip=skip), pairs=share
            )


def widest_band(layout: Layout, share: float) -> Band:
    """The band of rows of the grid that comes nearest to a share of pairs."""
    grid = layout.image.grid
    assert grid is not None
    bands = [Band(axis="y", width=width) for width in range(1, grid[1] + 1)]
    return min(bands, key=lambda band: abs(band.bind(layout, layout).density() - share))


def _count(grid: Grid, pool: Pool) -> int:
    frames, down, across = patches_along(grid, pool)
    return frames * down * across
