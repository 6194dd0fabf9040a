"""Concepts that were learned, as what attaches: the terms beside the projections of text to keys and values."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from saccade.core.clock import Clock
from saccade.core.errors import SelectorError
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site, SiteKind, Where
from saccade.mechanisms.attention_maps import AttentionMaps, Size
from saccade.mechanisms.low_rank import LowRank
from saccade.mechanisms.stopped_keys import StoppedKeys
from saccade.papers.attencraft.concept_file import read_concepts

KINDS: tuple[SiteKind, ...] = ("joint", "self", "cross")
ALL_SITES = Where(kinds=KINDS)
PATHS = ("add_k_proj", "add_v_proj"), ("to_k", "to_v")  # of joint sites and of cross-attention


@dataclass(frozen=True, kw_only=True)
class AttenCraft:
    """Attend with learned keys and values of the text.

    learned   a file or folder that a training made, or its terms in memory
    where     sites and share of the steps; of these, the ones that have terms
    The words themselves are the pipeline's: `load_concepts(pipe, learned)` adds them and returns this system.
    Raises SelectorError when attached to a model that lacks a site of the terms.
    """

    learned: LowRank | str | Path
    where: Where = ALL_SITES

    @property
    def name(self) -> str:
        return "attencraft"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        covered = self.where.covers(site) and self.where.active(clock)
        return (self._terms,) if covered and site.name in self._sites else ()

    def check_sites(self, sites: Iterable[Site]) -> None:
        """Raise SelectorError where terms would be left out in silence."""
        there = {site.name for site in sites}
        if missing := sorted(self._sites - there):
            raise SelectorError(
                f"learned={self._terms!r} has terms for '{missing[0]}', which is not attached; give the model they "
                "were learned on, and where=at(kind='cross') to attach if it hears the text by cross-attention"
            )

    @cached_property
    def _terms(self) -> LowRank:
        return self.learned if isinstance(self.learned, LowRank) else read_concepts(self.learned).terms

    @cached_property
    def _sites(self) -> frozenset[str]:
        return frozenset(site for site, _ in self._terms.names)


@dataclass(eq=False, kw_only=True)
class Learner:
    """The same while it learns: gradients of the text's start are stopped, and maps are recorded.

    start     positions of the mark that starts a text
    grids     of the sites whose maps count, of words and among the image
    recorder  what is recorded in the next forward; None for nothing
    """

    terms: LowRank
    start: tuple[int, ...] = ()
    grids: tuple[Size | None, Size | None] = (None, None)
    recorder: AttentionMaps | None = None
    made: dict[tuple[tuple[int, ...], int, bool], AttentionMaps] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return "attencraft"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        found: tuple[PlanItem, ...] = ()
        if site.name in self._sites:
            found = (self.terms, self._stopped) if self.start else (self.terms,)
        if self.recorder is None or (site.kind == "self" and self.recorder.image == ()):
            return found
        return (*found, self.recorder)

    def record(self, tokens: Iterable[int], rows: int, *, image: bool) -> AttentionMaps:
        """Record these tokens' maps in the next forward, and, if asked, the map among the image."""
        key = tuple(dict.fromkeys(tokens)), rows, image
        if key not in self.made:
            words, own = self.grids
            self.made[key] = AttentionMaps(tokens=key[0], rows=rows, words=words, image=own if image else ())
        self.recorder = self.made[key]
        return self.recorder

    @cached_property
    def _stopped(self) -> StoppedKeys:
        return StoppedKeys(tokens=self.start)

    @cached_property
    def _sites(self) -> frozenset[str]:
        return frozenset(site for site, _ in self.terms.names)
