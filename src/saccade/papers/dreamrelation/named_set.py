"""One named set of low-rank terms, as what a plan holds: an `Adapter`."""

from dataclasses import dataclass, field
from functools import cached_property

from saccade.core.projections import LowRankTerm, Terms
from saccade.core.site import Site
from saccade.mechanisms.low_rank import LowRank


@dataclass(eq=False)
class NamedSet:
    """The terms of a set, times `scale`, which is alpha / r; `mend` is what errors propose."""

    low: LowRank
    scale: float
    mend: str = field(init=False)

    def __post_init__(self) -> None:
        self.mend = self.low.mend

    @cached_property
    def sites(self) -> frozenset[str]:
        """Names of the sites that have terms."""
        return frozenset(site for site, _ in self.low.names)

    def terms(self, site: Site) -> Terms:
        """The terms of a site. Raises ValueError for a site without any."""
        return {path: self._scaled(term) for path, term in self.low.terms(site).items()}

    def _scaled(self, term: LowRankTerm) -> LowRankTerm:
        return term if self.scale == 1 else LowRankTerm(term.down, term.up * self.scale)

    def __repr__(self) -> str:
        return repr(self.low)
