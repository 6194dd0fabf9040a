"""Trainable dynamic masks for a model that is there already: every query keeps the keys that score highest (DMA)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from torch import nn

from saccade.core.checks import check_whole
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.papers.dma.best_keys import BestKeys
from saccade.papers.dma.scores import Form
from saccade.papers.dma.site_scores import SiteScores


@dataclass(frozen=True, kw_only=True)
class DMA:
    """Every query keeps `window` keys: those of the highest scores, which are added to its logits too.

    window   keys kept; where a query sees no more, all
    scores   to train, made by `trainable`; None: all keys score alike, and the latest ones are kept
    where    sites and share of the steps; cross-attention is never touched
    Without scores, or with A = 0, a text of up to `window` tokens is the host's own.
    Raises ValueError for options out of range.
    """

    window: int = 2048
    scores: SiteScores | None = None
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_whole(1, window=self.window)
        if self.where.heads is not None:
            raise ValueError(f"where.heads={self.where.heads} cannot be chosen here; pass where= to attach instead")

    @property
    def name(self) -> str:
        return "dma"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        return (_best(self.window, None if self.scores is None else self.scores.at(site)),)

    def trainable(
        self, sites: Iterable[Site], *, kv_heads: int, head_dim: int, form: Form = "exp", std: float = 0.0
    ) -> "DMA":
        """The same with scores for each site: `dma.scores.parameters()` are yours to train.

        sites      those of a run, `run.sites`
        kv_heads, head_dim   of the host
        std        of the first A. At 0 the host is unchanged within the window, and A alone has a gradient at first
        """
        found = [site for site in sites if site.kind != "cross"]
        return replace(self, scores=SiteScores(found, kv_heads=kv_heads, head_dim=head_dim, form=form, std=std))


@lru_cache(maxsize=256)
def _best(window: int, scores: nn.Module | None) -> Mechanism:
    """One for each window and module, so that equal phases have equal plans."""
    return BestKeys(window, scores)
