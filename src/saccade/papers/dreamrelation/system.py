"""A learned relation as what attaches: the sets that are active, and nothing of the subjects it was learned from."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from saccade.core.clock import Clock
from saccade.core.errors import SelectorError
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.dreamrelation.lora import RelationLora
from saccade.papers.dreamrelation.named_set import NamedSet
from saccade.papers.dreamrelation.placement import RELATION

Active = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DreamRelation:
    """Let sets of a learned relation act beside the projections of the attention.

    learned   a folder that `RelationLora.save` wrote, or the sets in memory
    active    names of the sets that act; the output projections' acts always
    where     sites and share of the steps; of these, the ones that have terms
    Raises ValueError for a name that has no set, SelectorError when attached to a model that lacks a site of the terms.
    """

    learned: RelationLora | str | Path
    active: Active = (RELATION,)
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen; projections are of all heads")
        if isinstance(self.learned, RelationLora):
            self.learned.check(self.active)

    @property
    def name(self) -> str:
        return "dreamrelation"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if not (self.where.covers(site) and self.where.active(clock)):
            return ()
        return _at(site, self.sets)

    def check_sites(self, sites: Iterable[Site]) -> None:
        """Raise SelectorError where terms would be left out in silence."""
        check_there(self.sets, sites)

    @cached_property
    def sets(self) -> tuple[NamedSet, ...]:
        """The sets that act. Raises ValueError for a name that has none."""
        known = self.learned if isinstance(self.learned, RelationLora) else RelationLora.load(self.learned)
        return known.acting(self.active)


@dataclass(eq=False, kw_only=True)
class RelationSwitch:
    """The same with sets that may be others in each call of the model, as in training.

    >>> with attach(model, switch):  # doctest: +SKIP
    ...     with switch.using("subject1"):
    ...         model(...)
    Raises ValueError for a name that has no set.
    """

    learned: RelationLora
    active: Active = ()

    def __post_init__(self) -> None:
        self.learned.check(self.active)

    @property
    def name(self) -> str:
        return "dreamrelation"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        """The sets that are active now."""
        return _at(site, self.learned.acting(self.active))

    def check_sites(self, sites: Iterable[Site]) -> None:
        """Raise SelectorError where terms would be left out in silence."""
        check_there(self.learned.acting(self.learned.names), sites)

    @contextmanager
    def using(self, *active: str) -> Iterator[None]:
        """These sets are active within the block. Raises ValueError for a name that has no set."""
        before = self.active
        self.learned.check(active)
        self.active = active
        try:
            yield
        finally:
            self.active = before


def check_there(sets: Iterable[NamedSet], sites: Iterable[Site]) -> None:
    """Raise SelectorError where a site that has terms is not attached."""
    there = {site.name for site in sites}
    for found in sets:
        if missing := sorted(found.sites - there):
            raise SelectorError(
                f"learned={found!r} has terms for '{missing[0]}', which is not attached; give the model they were "
                "trained on"
            )


def _at(site: Site, sets: tuple[NamedSet, ...]) -> tuple[PlanItem, ...]:
    return tuple(found for found in sets if site.name in found.sites)
