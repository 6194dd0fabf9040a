"""Attention with a bias at nearly the price of attention without one (FlashBias)."""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import Bias, LowRank
from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.mechanism import PlanItem
from saccade.core.site import EVERYWHERE, Site, Where
from saccade.ops.svd_factors import Factors, exact_factors, measured_factors, svd_factors
from saccade.papers.flashbias.factor_students import FactorStudents, fit_students
from saccade.papers.flashbias.factored_bias import FactoredBias
from saccade.papers.flashbias.learned_distance import LearnedDistance
from saccade.papers.flashbias.place_priors import SpatialDistance
from saccade.papers.flashbias.prior_bias import PriorBias, prior_tokens
from saccade.papers.flashbias.priors import Prior

Planned = Prior | FactoredBias | LearnedDistance
Method = Literal["auto", "exact", "svd", "neural"]
Tokens = int | Layout | tuple[int | Layout, int | Layout]


@dataclass(frozen=True, kw_only=True)
class FlashBias:
    """Add a prior to the scores of attention as a few more columns of q and k, never as an n x m map.

    prior          a `Prior`; a `FactoredBias`, which factors the dense bias a host passes itself; a `LearnedDistance`;
                   or a mapping from patterns of site names to one of these, the first that fits
    tokens         segment kind or name the prior speaks about, "*" for all; others get a bias of zero
    split_columns  keep columns exact in half precision
    where          sites, heads and share of the steps
    """

    prior: Planned | Mapping[str, Planned] = SpatialDistance()
    tokens: str = "image"
    split_columns: bool = True
    where: Where = EVERYWHERE

    @property
    def name(self) -> str:
        return "flashbias"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if not (self.where.covers(site) and self.where.active(clock)):
            return ()
        match self._prior_at(site):
            case None:
                return ()
            case Prior() as prior:
                rule = PriorBias(
                    prior=prior, tokens=self.tokens, heads=self.where.heads, split_columns=self.split_columns
                )
                return () if prior.neutral else (rule,)
            case mechanism:
                return (mechanism,)

    def _prior_at(self, site: Site) -> Planned | None:
        if not isinstance(self.prior, Mapping):
            return self.prior
        return next((prior for pattern, prior in self.prior.items() if fnmatchcase(site.name, pattern)), None)


def factorize(
    bias: Float[Tensor, "*bh n m"] | Prior,
    *,
    method: Method = "auto",
    energy: float = 0.995,
    max_rank: int | None = None,
    tokens: Tokens | None = None,
    heads: int = 1,
    features: tuple[Float[Tensor, "b n f"], Float[Tensor, "b m f"]] | None = None,
    steps: int = 2000,
) -> Factors:
    """Factors of a bias: a formula exactly, a table by SVD, a table with features by two trained networks.

    bias      values, or a `Prior` over `tokens` (a count or a layout; a pair where queries and keys differ)
    method    "auto": exact for a prior, SVD for values
    energy    share of the squared norm to keep, row means apart; max_rank columns at most (neural: exactly, 96 if None)
    features  one vector per query and per key, for method "neural"; `steps` of Adam at 1e-3
    Raises ValueError where method and arguments do not go together; warns where max_rank is too small for energy.
    """
    match method, bias:
        case "exact" | "auto", Prior():
            q, k = _pair(bias, tokens)
            return _exact(bias.bias(prior_tokens(q), prior_tokens(k), heads), max_rank)
        case "svd" | "auto", _:
            return svd_factors(_values(bias, tokens, heads), energy=energy, max_rank=max_rank)
        case "neural", _:
            if features is None:
                raise ValueError("method='neural' learns from features; give features=(per query, per key)")
            return _neural(_values(bias, tokens, heads), features, 96 if max_rank is None else max_rank, steps)
        case "exact", _:
            raise ValueError("method='exact' needs a formula, a Prior; values are factored by method='svd'")
        case _:
            raise ValueError(f"method='{method}' must be one of 'auto', 'exact', 'svd', 'neural'")


def _exact(bias: Bias, max_rank: int | None) -> Factors:
    if not isinstance(bias, LowRank):
        raise ValueError("this prior keeps a table dense; raise its max_rank, or cut it with beyond='cut'")
    if max_rank is not None and bias.rank > max_rank:
        raise ValueError(f"max_rank={max_rank} is below the {bias.rank} exact columns; approximate with method='svd'")
    return exact_factors(bias)


def _values(bias: Tensor | Prior, tokens: Tokens | None, heads: int) -> Tensor:
    if isinstance(bias, Tensor):
        return bias
    q, k = _pair(bias, tokens)
    return bias.bias(prior_tokens(q), prior_tokens(k), heads).materialize(q.n, k.n)


def _pair(prior: Prior, tokens: Tokens | None) -> tuple[Layout, Layout]:
    if tokens is None:
        raise ValueError(f"{prior} speaks about places; give tokens=, a count or a layout")
    q, k = tokens if isinstance(tokens, tuple) else (tokens, tokens)
    return _layout(q), _layout(k)


def _layout(tokens: int | Layout) -> Layout:
    return Layout.plain(tokens) if isinstance(tokens, int) else tokens


def _neural(values: Tensor, features: tuple[Tensor, Tensor], rank: int, steps: int) -> Factors:
    x, y = features
    table = values[(None,) * (4 - values.ndim)]
    students = FactorStudents(x.shape[-1], heads=table.shape[1], rank=rank).to(x)
    fit_students(students, lambda step: (x, y, table), steps=steps)
    with torch.no_grad():
        return measured_factors(students(x, y), table)
