"""Attention of a trained model in subregions: other groups of tokens from block to block."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.core.clock import Clock
from saccade.core.features import Features
from saccade.core.layout import Layout, Segment
from saccade.core.masks import CoarseRule, Device, Mask, OnHeads, Rule, Table
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.e_mmdit.subregions import ALTERNATING, Pattern, check_pattern, group_of


@dataclass(frozen=True)
class SameSubregion(Mask):
    """Tokens see those of their own group in every segment; tokens that are neither picture nor text are not named."""

    regions: int
    run: int

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return self._table(layout_q, layout_k).rule(layout_q, layout_k, device)

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return self._table(layout_q, layout_k).coarse(layout_q, layout_k, device)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return self._table(layout_q, layout_k).features(layout_q, layout_k)

    def _table(self, layout_q: Layout, layout_k: Layout) -> Table:
        q, k = (torch.cat([self._label(part) for part in each.segments]) for each in (layout_q, layout_k))
        return Table(q, k, torch.eye(self.regions, dtype=torch.bool))

    def _label(self, part: Segment) -> Int[Tensor, " n"]:
        if part.kind not in ("text", "image"):
            return torch.full((part.n,), -1)
        return group_of(part.n, self.regions, self.run)


@dataclass(frozen=True, kw_only=True)
class Subregions:
    """Attention of a trained model in subregions, other ones from block to block.

    patterns   (regions, run) of the model's sites in turn; one region is full attention
    where      sites, heads and share of the steps; cross-attention is never touched
    Raises ValueError for options out of range.
    """

    patterns: tuple[Pattern, ...] = ALTERNATING
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        if not self.patterns:
            raise ValueError("patterns=() names no (regions, run); give ((1, 1),) for full attention")
        for pattern in self.patterns:
            check_pattern(*pattern)

    @property
    def name(self) -> str:
        return "subregions"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        regions, run = self.patterns[site.index % len(self.patterns)]
        if regions == 1 or site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        mask = SameSubregion(regions, run)
        return (mask if self.where.heads is None else OnHeads(mask, self.where.heads, site.heads),)
