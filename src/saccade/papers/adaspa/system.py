"""Sparse attention for video: blocks of keys found by their exact mass, per head, refreshed by a kept lse (AdaSpa)."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from saccade.core.checks import check_numbers
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.mechanisms.frozen_pattern import FrozenPattern
from saccade.papers.adaspa.search import FindMask, MassChoice, RefreshMask

SEARCH = 0.5  # of a dense attention: one product of queries and keys, without values


@dataclass(frozen=True, kw_only=True)
class AdaSpa:
    """Dense attention at first, then attention to the blocks of keys that got most of it, searched a few times a run.

    sparsity       share of the key blocks left out for each block of queries, in [1/3, 1); in [0, 1) with
                   `head_adaptive=False`, where 0 is dense
    searches       rising shares of the run, in [0, 1], after which blocks are searched: 0.2 of 50 steps is the tenth.
                   Up to and including the first, attention is dense
    block          tokens
    head_adaptive  heads whose blocks hold more than 0.8 of their attention become sparser, as many others denser
    lse_cache      later searches measure by the first one's lse and are sparse themselves; False: they are dense
    text           (start, stop) of the text tokens, whose blocks are always kept; None: the layout's
    queries        of each block that are measured, spread evenly; None: all, as in the paper
    where          sites and share of the steps; cross-attention is never touched
    Raises ValueError for options out of range.
    """

    sparsity: float = 0.8
    searches: tuple[float, ...] = (0.2, 0.6)
    block: int = 64
    head_adaptive: bool = True
    lse_cache: bool = True
    text: tuple[int, int] | None = None
    queries: int | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(sparsity=self.sparsity, block=self.block, queries=self.queries)
        self._check_sparsity()
        self._check_searches()
        if self.block < 1:
            raise ValueError(f"block={self.block} must be at least 1 token; 64 suits the kernels")
        if self.text is not None and not (len(self.text) == 2 and 0 <= self.text[0] <= self.text[1]):
            raise ValueError(f"text={self.text} must be (start, stop) with 0 <= start <= stop; None takes the layout's")
        if self.queries is not None and self.queries < 1:
            raise ValueError(f"queries={self.queries} must be at least 1 of each block; None measures all")
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")

    @property
    def name(self) -> str:
        return "adaspa"

    @property
    def timed(self) -> bool:
        """The plan depends on the step, so a host must give it."""
        return self.sparsity > 0

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or self.sparsity == 0 or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        steps = self.search_steps(clock.num_steps, begin=clock.first)
        if not steps or clock.step < steps[0]:
            return ()
        first, *later = steps
        if clock.step == first or (clock.step in later and not self.lse_cache):
            return (FindMask(choice=self._choice, keep_lse=self.lse_cache and bool(later)),)
        return (self._refresh,) if clock.step in later else (self._reuse,)

    def search_steps(self, num_steps: int, begin: int = 0) -> tuple[int, ...]:
        """The steps, from 0, in which blocks are searched, the first of them dense; none if that were the last step.

        Searches before step `begin`, at which the model begins, become one in that step.
        """
        steps = sorted({max(int(share * num_steps + 0.5) - 1, 0) for share in self.searches})
        first = max(steps[0], begin)
        return () if first >= num_steps - 1 else (first, *(step for step in steps if step > first))

    def density(self, num_steps: int, share: float | None = None) -> float:
        """Mean share of pairs over a whole run, if sparse steps compute `share` of them (1 - sparsity if None)."""
        if self.sparsity == 0 or not (steps := self.search_steps(num_steps)):
            return 1.0
        dense = steps[0] + (1 if self.lse_cache else len(steps))
        kept = 1 - self.sparsity if share is None else share
        return (dense + (num_steps - dense) * kept) / num_steps

    def cost(self, num_steps: int, share: float | None = None) -> float:
        """The same with the searches, each half a dense attention: the run's attention in parts of a dense run's."""
        searches = len(self.search_steps(num_steps)) if self.sparsity > 0 else 0
        return self.density(num_steps, share) + SEARCH * searches / num_steps

    def _check_sparsity(self) -> None:
        low = "1/3" if self.head_adaptive else "0"
        if not (0 <= self.sparsity < 1) or (self.head_adaptive and 3 * self.sparsity < 1):
            raise ValueError(
                f"sparsity={self.sparsity} must be in [{low}, 1)"
                + ("; head_adaptive=False takes less, down to 0, which is dense" if self.head_adaptive else "")
            )

    def _check_searches(self) -> None:
        check_numbers(**{f"searches[{i}]": share for i, share in enumerate(self.searches)})
        rising = all(a < b for a, b in pairwise(self.searches))
        if not (self.searches and rising and 0 <= self.searches[0] and self.searches[-1] <= 1):
            raise ValueError(
                f"searches={self.searches} must hold rising shares of the run, at least one and none beyond 1; steps "
                "10 and 30 of 50 are (0.2, 0.6)"
            )

    @cached_property
    def _choice(self) -> MassChoice:
        return MassChoice(
            sparsity=self.sparsity, block=self.block, head_adaptive=self.head_adaptive, text=self.text,
            queries=self.queries,
        )  # fmt: skip

    @cached_property
    def _refresh(self) -> RefreshMask:
        return RefreshMask(choice=self._choice)

    @cached_property
    def _reuse(self) -> FrozenPattern:
        return FrozenPattern(block=self.block)
