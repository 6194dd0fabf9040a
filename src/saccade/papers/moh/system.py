"""Let every token use some of a layer's heads (MoH)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from saccade.core.checks import check_numbers
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.moh.head_gates import InputGates, QueryGates
from saccade.papers.moh.head_routing import HeadCounts, NormGates
from saccade.papers.moh.site_gates import SiteGates


@dataclass(frozen=True, kw_only=True)
class MoH:
    """Let every token use some of a layer's heads: the first ones, and of the others those of the longest queries.

    shared   share of a layer's heads that all tokens use, rounded to at least one where it is not 0
    routed   share that each token picks, likewise
    gates    routers to train, made by `trainable`, which pick instead; without them gates are one and zero
    where    sites and share of the steps; cross-attention is never touched
    By norm a layer whose heads all act is bitwise the host.
    Raises ValueError for options out of range.
    """

    shared: float = 0.5
    routed: float = 0.25
    gates: SiteGates | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(shared=self.shared, routed=self.routed)
        if not (0 <= self.shared < 1 and self.routed > 0 and self.shared + self.routed <= 1):
            raise ValueError(
                f"shared={self.shared} and routed={self.routed} must be shares of the heads that add up to at most 1, "
                "and routed must be above 0"
            )
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} has no meaning here; choose by shared and routed")

    @property
    def name(self) -> str:
        return "moh"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        if self.gates is not None:
            rest, text = self.gates.at(site)
            return (InputGates(rest=rest, text=text),)
        if site.heads == 1 or (counts := self.counts(site.heads)).active == site.heads:
            return ()
        return (_by_norm(counts),)

    def counts(self, heads: int) -> HeadCounts:
        """The heads of a layer of `heads`."""
        shared = min(_some(self.shared, heads), heads - 1)
        return HeadCounts(heads=heads, shared=shared, routed=min(_some(self.routed, heads), heads - shared))

    def trainable(self, sites: Iterable[Site], width: int, *, std: float = 0.02) -> "MoH":
        """The same with routers for each site: `moh.gates.parameters()` are yours to train.

        sites   those of a run, `run.sites`; width   channels of what enters the attention; std   of the first weights
        """
        counts = {site: self.counts(site.heads) for site in sites if site.kind != "cross"}
        return replace(self, gates=SiteGates(counts, width, std=std))


def _some(share: float, heads: int) -> int:
    return max(1, round(share * heads)) if share else 0


@lru_cache(maxsize=64)
def _by_norm(counts: HeadCounts) -> Mechanism:
    """One for equal counts, so that equal phases have equal plans."""
    return QueryGates(gating=NormGates(counts))
