"""Sparse attention for samplers: dense at first, then one block pattern per head, found once and kept (SparseD)."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from saccade.core.checks import check_numbers
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.mechanisms.frozen_pattern import FrozenPattern
from saccade.papers.sparsed.block_choice import Rule
from saccade.papers.sparsed.find_pattern import FindPattern

SelectRule = Rule
Compat = Literal["official"]


@dataclass(frozen=True, kw_only=True)
class SparseD:
    """Attention to the blocks of keys that got most of it in one early step, per head, in all steps after that.

    keep         share of the key blocks, in (0, 1]; 1 is dense. The paper: 0.3 for long contexts, 0.5 with block 32
    block        tokens; kernels work in blocks of 128 and 64, `native` of 32 too
    skip         share of the steps that stay dense, in [0, 1]; the paper: 0.2 to 0.3
    select_rule  "official": the released code's counts and steps. "paper": the text's. "joint": without isolation
    generation   number of tokens to be generated, at the end of the sequence; None: the image's, or a language model's
                 segment "generation"
    per_head     a pattern for each head, or one for all
    queries      of each block that are scored, spread evenly; None: all, as in the paper, which takes longer than dense
                 attention. What a few take `saccade bench patterns` measures
    compat       "official" scores with the released LLaDA code's scale
    where        sites and share of the steps; cross-attention is never touched
    Raises ValueError for options out of range.
    """

    keep: float = 0.3
    block: int = 128
    skip: float = 0.2
    select_rule: SelectRule = "official"
    generation: int | None = None
    per_head: bool = True
    queries: int | None = None
    compat: Compat | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(keep=self.keep, block=self.block, skip=self.skip, generation=self.generation)
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep={self.keep} must be in (0, 1]; 1 is dense")
        if not 0 <= self.skip <= 1:
            raise ValueError(f"skip={self.skip} must be in [0, 1], the share of the steps that stay dense")
        if self.block < 1:
            raise ValueError(f"block={self.block} must be at least 1 token; 128 suits the kernels")
        if self.queries is not None and self.queries < 1:
            raise ValueError(f"queries={self.queries} must be at least 1 of each block; None scores all")
        if self.generation is not None and self.generation < 1:
            raise ValueError(f"generation={self.generation} must be at least 1 token; None takes it from the layout")
        if self.select_rule not in get_args(SelectRule):
            raise ValueError(f"select_rule='{self.select_rule}' must be one of {get_args(SelectRule)}")
        if self.compat not in (None, "official"):
            raise ValueError(f"compat='{self.compat}' must be 'official' or None")
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")

    @property
    def name(self) -> str:
        return "sparsed"

    @property
    def timed(self) -> bool:
        """The plan depends on the step, so a host must tell it."""
        return self.keep < 1

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        last = max(self.last_dense(clock.num_steps), clock.first)  # one that begins later finds its pattern at once
        if self.keep == 1 or clock.step < last or last >= clock.num_steps - 1:
            return ()
        return (self._find,) if clock.step == last else (self._reuse,)

    def last_dense(self, num_steps: int) -> int:
        """The last dense step, from 0: there the pattern is found, and later steps use it."""
        return int(num_steps * self.skip) + (self.select_rule == "official")

    def density(self, num_steps: int, share: float | None = None) -> float:
        """Mean share of pairs over a whole run, if sparse steps compute `share` of them (`keep` if None)."""
        dense = min(self.last_dense(num_steps) + 1, num_steps)
        return (dense + (num_steps - dense) * (self.keep if share is None else share)) / num_steps

    @cached_property
    def _find(self) -> FindPattern:
        return FindPattern(
            keep=self.keep, block=self.block, rule=self.select_rule, generation=self.generation,
            per_head=self.per_head, queries=self.queries, score_scale="heads" if self.compat == "official" else "width",
        )  # fmt: skip

    @cached_property
    def _reuse(self) -> FrozenPattern:
        return FrozenPattern(block=self.block)
