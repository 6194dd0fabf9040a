"""Linear-cost attention for trained transformers: each image token sees all text and a disc around itself (CLEAR)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from saccade.core.checks import check_numbers
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.masks import OnHeads
from saccade.core.mechanism import Mechanism, PlanItem
from saccade.core.places import Disc
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.core.stack import make_plan
from saccade.mechanisms.low_rank import LowRank
from saccade.papers.clear.adapters import adapter_file, bundled_name, load_adapter
from saccade.papers.clear.log_scale import LogScale
from saccade.papers.clear.pooled_keys import PooledKeys, PoolingWeights
from saccade.papers.clear.rotary_theta import RotaryTheta

POOLED_STRETCH = 10.0  # each key counts ten times in the proportional scale of the pooled variant (official code)


@dataclass(frozen=True, kw_only=True)
class Clear:
    """Image tokens see all text and the image tokens nearer than `radius`; text stays dense.

    radius          in tokens, above 0; 1 leaves an image token itself and the text
    pool            append keys and values averaged over pool x pool patches, seen by image tokens
    proportional    scale by sqrt(log n / log trained_tokens): for resolutions above the training's
    trained_tokens  keys at training, text included
    ntk             factor on the rotary base, for higher resolutions; 1 leaves it
    weights         trainable pooling weights, by site
    distilled       what a distillation added to the projections: True for the bundled adapter of this radius and pool,
                    else a bundled name, a file of `saccade train clear-distil`, or terms of your own
    where           sites, heads and share of the steps; cross-attention is never touched
    Raises ValueError for options out of range.
    """

    radius: float
    pool: int | None = None
    proportional: bool = False
    trained_tokens: int = 64**2 + 512
    ntk: float = 1.0
    weights: PoolingWeights | None = None
    distilled: bool | str | Path | LowRank = False
    where: Where = EVERYWHERE

    def __post_init__(self) -> None:
        check_numbers(radius=self.radius, pool=self.pool, trained_tokens=self.trained_tokens, ntk=self.ntk)
        _ = self._disc, self._adapter, self._acts  # made here once, so that bad options fail at once
        if self.weights is not None and self.pool is None:
            raise ValueError(f"weights={self.weights} have nothing to pool; give pool={self.weights.size} too")
        if self.where.heads is not None and (self._acts or self._adapter):
            raise ValueError(
                f"where.heads={self.where.heads} can choose heads for the disc alone; drop pool, proportional, ntk "
                "and distilled, or the heads"
            )

    @property
    def name(self) -> str:
        return "clear"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.kind == "cross" or not (self.where.covers(site) and self.where.active(clock)):
            return ()
        disc = self._disc if self.where.heads is None else OnHeads(self._disc, self.where.heads, site.heads)
        return (disc, *self._acts, *self._adapter)

    def trainable(self, sites: Iterable[Site | str]) -> "Clear":
        """The same with pooling weights of their own for each site: `clear.weights.parameters()` are yours to train.

        Raises ValueError without pooling.
        """
        if self.pool is None:
            raise ValueError("pool=None has no weights to train; give the side of the patches, such as pool=4")
        return replace(self, weights=PoolingWeights(sites, self.pool))

    def pairs(self, layout: Layout) -> int:
        """Exact number of (query, key) pairs per head and batch row of self-attention over these tokens."""
        site = Site(name="count", kind="joint")
        plan = make_plan({self.name: (self._disc, *self._acts)}, site, layout, layout, torch.device("cpu"))
        return layout.n * plan.layout_k.n if plan.mask is None else plan.mask.bound.pairs()

    @cached_property
    def _disc(self) -> Disc:
        return Disc(self.radius)

    @cached_property
    def _adapter(self) -> tuple[LowRank, ...]:
        return self._loaded[0]

    @cached_property
    def _loaded(self) -> tuple[tuple[LowRank, ...], PoolingWeights | None]:
        """The adapter and the pooling weights of its file."""
        if self.distilled is False or isinstance(self.distilled, LowRank):
            return () if self.distilled is False else (self.distilled,), None
        given = bundled_name(self.radius, self.pool) if self.distilled is True else self.distilled
        terms, pooling = load_adapter(adapter_file(given), self.pool)
        return (terms,), pooling

    @cached_property
    def _acts(self) -> tuple[Mechanism, ...]:
        stretch = 1.0 if self.pool is None else POOLED_STRETCH
        chosen = (
            PooledKeys(size=self.pool, weights=self.weights or self._loaded[1]) if self.pool is not None else None,
            LogScale(trained=self.trained_tokens, stretch=stretch) if self.proportional else None,
            RotaryTheta(factor=self.ntk) if self.ntk != 1 else None,
        )
        return tuple(item for item in chosen if item is not None)
