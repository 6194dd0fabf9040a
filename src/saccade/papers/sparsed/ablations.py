"""What SparseD is compared with: a pattern in use for a part of the steps, another head's pattern, a window."""

from dataclasses import dataclass
from functools import cached_property

import torch

from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import Pairs, PlanItem
from saccade.core.site import Site
from saccade.core.state import Memory
from saccade.mechanisms.block_grid import BlockGrid
from saccade.mechanisms.frozen_pattern import BLOCKS, FrozenPattern
from saccade.papers.sparsed.find_pattern import FindPattern
from saccade.papers.sparsed.system import SparseD


@dataclass(frozen=True, kw_only=True)
class Between:
    """A pattern found at one step and in use from the step after it, up to `stop`."""

    find: int
    stop: int
    keep: float
    block: int
    generation: int
    name: str = "between"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if clock.step == self.find:
            return (self._find,)
        return (FrozenPattern(block=self.block),) if self.find < clock.step < self.stop else ()

    @cached_property
    def _find(self) -> FindPattern:
        return FindPattern(keep=self.keep, block=self.block, generation=self.generation)


@dataclass(frozen=True, kw_only=True)
class OtherHead(FrozenPattern):
    """The pattern of the next head."""

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        return Pairs(mask=BlockGrid(mem.get(BLOCKS).roll(1, dims=1), self.block, call.layout_q.n))


@dataclass(frozen=True, kw_only=True)
class Rolled(SparseD):
    """SparseD with every head at the pattern of its neighbour."""

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        items = super().plan(site, clock)
        return (OtherHead(block=self.block),) if items and isinstance(items[0], FrozenPattern) else items


@dataclass(frozen=True, kw_only=True)
class Window:
    """Blocks near the diagonal, `kept` for each block of queries, in the steps in which `like` is sparse.

    tokens  of the whole sequence
    """

    like: SparseD
    kept: int
    tokens: int
    name: str = "window"

    @property
    def density(self) -> float:
        """Share of the pairs it keeps."""
        return self.kept * self.like.block / self.tokens

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (self._mask,) if clock.step > self.like.last_dense(clock.num_steps) else ()

    @cached_property
    def _mask(self) -> BlockGrid:
        at = torch.arange(self.tokens // self.like.block)
        away = (at[:, None] - at).abs() * 2 - (at[:, None] > at).int()
        near = away.argsort(dim=1, stable=True).argsort(dim=1) < self.kept
        return BlockGrid(near[None, None], self.like.block, self.tokens)
