"""Let every self-attention of a frozen transformer read memory tokens (DiT-Mem)."""

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from saccade.core.checks import check_word
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.dit_mem.memory_keys import MemoryKeys, Negative
from saccade.papers.dit_mem.tokens import HeldMemory, MemoryTokens, as_memory


@dataclass(frozen=True, kw_only=True)
class DiTMem:
    """Memory as more keys and values of self-attention and joint attention, under each block's norm and modulation.

    memory    tokens (b m d) or (m d), `MemoryTokens` of a `MemoryEncoder`, or a `HeldMemory` that changes between
              forwards; one row for all prompts, or one for each. None, or no token, leaves the model as it is
    negative  what unconditional rows see: "memory", as released; "zeros", tokens of zeros, which are still keys;
              "none"
    where     which sites, and in which share of the steps
    Raises ValueError for options out of range.
    """

    memory: MemoryTokens | HeldMemory | Tensor | None = None
    negative: Negative = "memory"
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_word(get_args(Negative), negative=self.negative)
        if isinstance(self.memory, Tensor):
            object.__setattr__(self, "memory", as_memory(self.memory))

    @property
    def name(self) -> str:
        return "dit_mem"

    @property
    def timed(self) -> bool:
        """Whether it asks for the step."""
        return self.where.during != (0.0, 1.0)

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        """The keys; the same for all steps."""
        memory = self.memory.tokens if isinstance(self.memory, HeldMemory) else self.memory
        assert not isinstance(memory, Tensor)
        if memory is None or memory.n == 0 or not self.where.covers(site) or not self.where.active(clock):
            return ()
        if self.negative == "none" and clock.branch == "uncond":
            return ()
        return (MemoryKeys(memory=memory, negative=self.negative),)
