"""What AdaSpa is compared with: blocks chosen without looking, and a refresh by an lse of its own step."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import torch
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism, Pairs, PlanItem
from saccade.core.partial import Parts
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.mechanisms.block_grid import BlockGrid
from saccade.mechanisms.frozen_pattern import keep_blocks
from saccade.ops import attend
from saccade.ops.block_scores import block_mass, open_blocks
from saccade.papers.adaspa.mass_mask import row_wise
from saccade.papers.adaspa.search import LSE, RefreshMask
from saccade.papers.adaspa.system import AdaSpa

Rule = Literal["band", "random"]


@dataclass(frozen=True, kw_only=True)
class FixedBlocks:
    """As many blocks as `like` keeps at its common sparsity, those with text included, in the steps after its search.

    rule    "band": the blocks nearest to the diagonal; "random": others for each site and head
    layout  of the tokens
    """

    like: AdaSpa
    rule: Rule
    layout: Layout

    @property
    def name(self) -> str:
        return self.rule

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        steps = self.like.search_steps(clock.num_steps, begin=clock.first)
        if not steps or clock.step <= steps[0]:
            return ()
        return (fixed_mask(self.rule, self.layout, self.like.block, self.like.sparsity, site.index, site.heads),)


@lru_cache(maxsize=256)
def fixed_mask(rule: Rule, layout: Layout, block: int, sparsity: float, seed: int, heads: int) -> BlockGrid:
    """A mask by a rule, for every batch row; `seed` is that of random blocks."""
    text = open_blocks(layout.is_("text")[None], block)
    at = torch.arange(text.shape[1])
    if rule == "band":
        score = (1 / (1 + (at[:, None] - at).abs())).expand(1, heads, -1, -1)
    else:
        score = torch.rand(1, heads, len(at), len(at), generator=torch.Generator().manual_seed(seed))
    levels = torch.zeros(1, heads, dtype=torch.int64)
    return BlockGrid(row_wise(score, torch.ones_like(text), text, sparsity, levels), block, layout.n)


@dataclass(frozen=True, kw_only=True, eq=False)
class FreshRefresh(RefreshMask):
    """A refresh by the lse of its own step, which takes a dense pass more; notes how far the kept lse agrees.

    same   of each refresh (2 b h), among blocks without text: the share on which both masks agree, and of those kept by
           the fresh lse the share that the kept lse keeps too
    """

    same: list[Tensor]

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        lse = attend(call, want_lse=True).lse
        assert lse is not None
        fresh, cached = (self.choice.blocks(call, x) for x in (lse, mem.get(LSE)))
        rest = ~open_blocks(call.layout_q.is_("text", fresh.device)[None], self.choice.block)[0]
        ours, theirs = (mask[:, :, rest][..., rest] for mask in (fresh, cached))
        common = (ours & theirs).sum((2, 3)) / ours.sum((2, 3))
        self.same.append(torch.stack(((ours == theirs).float().mean((2, 3)), common)))
        return Pairs(mask=keep_blocks(fresh, self.choice.block, call, mem))


@dataclass(frozen=True, kw_only=True, eq=False)
class FreshLse(AdaSpa):
    """AdaSpa whose refresh knows the lse of its own step."""

    same: list[Tensor]

    @cached_property
    def _refresh(self) -> RefreshMask:
        return FreshRefresh(choice=self._choice, same=self.same)


@dataclass(frozen=True, kw_only=True, eq=False)
class KeepMass(Mechanism):
    """Keeps the mass of every call, step by step, by site."""

    block: int
    found: dict[str, list[Tensor]]
    needs = frozenset({"lse"})

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        assert parts.lse is not None
        self.found.setdefault(call.site.name, []).append(block_mass(call, parts.lse, self.block))


@dataclass(frozen=True, eq=False)
class WatchMass:
    """Dense attention, with the mass of every site kept."""

    keep: KeepMass
    name: str = "watch mass"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self.keep,)
