"""Attention maps made of a mask, a decay with distance, and scores of content; float64."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.analysis.rollout import head_mean
from saccade.core.checks import check_word
from saccade.papers.position_bias.masks import CAUSAL, Graph


def slope_of(gamma: float) -> float:
    """m = -log(gamma), for a decay written as gamma^(i - j).

    Raises ValueError outside (0, 1].
    """
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma={gamma} must be in (0, 1]; 1 is no decay")
    return -math.log(gamma)


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """2^(-8h / heads) for h = 1 .. heads.

    Raises ValueError for no head.
    """
    if heads < 1:
        raise ValueError(f"heads={heads} must be at least 1")
    return tuple(2 ** (-8 * h / heads) for h in range(1, heads + 1))


def attention_map(
    n: int, graph: Graph = CAUSAL, *, slope: float = 0.0, scores: Float[Tensor, "*b {n} {n}"] | None = None
) -> Float[Tensor, "*b {n} {n}"]:
    """softmax over the graph's edges of scores_ij - slope (i - j); without scores, of content that is all alike.

    slope   m of the decay, in nats a token; ALiBi's
    Raises ValueError for a slope below 0 or not finite, and for a score that is NaN.
    """
    check_slope(slope)
    allowed, place = graph.allowed(n), torch.arange(n, dtype=torch.float64)
    bias = -slope * (place[:, None] - place)
    if scores is not None:
        if scores.isnan().any():
            raise ValueError("scores holds NaN; give finite scores, and say what is masked by the graph")
        bias = bias + scores.double()
    return bias.masked_fill(~allowed, -torch.inf).softmax(-1)


def headed_map(
    n: int,
    slopes: Sequence[float] = (0.0,),
    graph: Graph = CAUSAL,
    *,
    weights: Sequence[float] | None = None,
    diagonal: Sequence[float] | None = None,
    base: Sequence[float] | None = None,
    temperature: float = 1.0,
    compat: Literal["none", "official"] = "none",
) -> Float[Tensor, "{n} {n}"]:
    """The mean map of heads with a decay each, and a prior on content each.

    slopes      m of each head
    weights     of the heads in the mean; None for equal ones
    diagonal    added to each head's score of a token with itself; one entry for all heads, or one for each
    base        added to all of a head's scores, which changes nothing
    temperature   by which scores and decay together are divided
    compat      "official" gives a single entry to head 0 alone, as the follow-up's code does
    Raises ValueError for a temperature that is not above 0, and for another number of entries than heads.
    """
    check_word(("none", "official"), compat=compat)
    diagonal, base = (
        _by_head(name, given, len(slopes), alone=compat == "official")
        for name, given in (("diagonal", diagonal), ("base", base))
    )
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be above 0")
    eye = torch.eye(n, dtype=torch.float64)
    maps = [
        attention_map(n, graph, slope=m / temperature, scores=(b + d * eye) / temperature)
        for m, d, b in zip(slopes, diagonal, base, strict=True)
    ]
    return head_mean(torch.stack(maps), weights)


def _by_head(name: str, given: Sequence[float] | None, heads: int, *, alone: bool) -> Sequence[float]:
    """One entry for each head: zeros for None, a single one shared, or for head 0 `alone`."""
    found = given or [0.0]
    if len(found) == 1:
        return [found[0], *[0.0 if alone else found[0]] * (heads - 1)]
    if len(found) != heads:
        raise ValueError(f"{name} has {len(found)} entries for {heads} heads; give one for all, or one for each")
    return found


def check_slope(slope: float) -> None:
    """Raise ValueError for a slope below 0 or not finite."""
    if not 0 <= slope < math.inf:
        raise ValueError(f"slope={slope} must be a finite number of at least 0; recency is favoured by a larger one")
