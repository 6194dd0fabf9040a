"""Priors from formulas.

Alibi            slope (j - i) in token order          SpatialDistance  -strength |x - y|^2 on the grid
Polynomial       of i and j                            Cosine           amplitude cos(2 pi (i - j) / period)
SegmentBias      one value per pair of segments
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.ops.exact_factors import (
    DistanceForm,
    LinearForm,
    alibi_slopes,
    block_factors,
    cosine_factors,
    distance_factors,
    linear_factors,
    polynomial_factors,
    reversed_linear_factors,
)
from saccade.papers.flashbias.priors import Prior, PriorTokens

Compat = Literal["none", "official"]


@dataclass(frozen=True, kw_only=True)
class Alibi(Prior):
    """slope_h (j - i) in token order, for causal attention: 0 on the query itself, falling into the past.

    slopes: one per head; None is 2^(-8 (h + 1) / heads). form "keys" is slope_h j, one column, the same attention.
    compat="official" takes the sign printed in the FlashBias paper, slope (i - j), which rewards distance.
    """

    slopes: tuple[float, ...] | None = None
    form: LinearForm = "both"
    compat: Compat = "none"

    def __post_init__(self) -> None:
        _check_choice("form", self.form, get_args(LinearForm))
        _check_choice("compat", self.compat, get_args(Compat))

    @property
    def only_up_to_rows(self) -> bool:
        return self.form == "keys"

    def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> LowRank:
        slopes = alibi_slopes(heads) if self.slopes is None else per_head("slopes", self.slopes, heads)
        if self.compat == "official":
            return reversed_linear_factors(slopes, q.order, k.order, self.form)
        return linear_factors(slopes, q.order, k.order, self.form)


@dataclass(frozen=True, kw_only=True)
class SpatialDistance(Prior):
    """-strength_h |x - y|^2 between places (t, y, x) on the grid.

    strength: one number, or one per head. unit "side" measures in sides of the picture (the longer one; time in lengths
    of the video), so that a strength means the same at every size; "token" measures in tokens.
    """

    strength: float | tuple[float, ...] = 1.0
    unit: Literal["side", "token"] = "side"
    form: DistanceForm = "minimal"

    def __post_init__(self) -> None:
        _check_choice("unit", self.unit, ("side", "token"))
        _check_choice("form", self.form, get_args(DistanceForm))

    @property
    def neutral(self) -> bool:
        return not any(_tuple(self.strength))

    @property
    def only_up_to_rows(self) -> bool:
        return self.form == "keys"

    def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> LowRank:
        x, y, side = places_on_axes(q, k)
        weight = per_head("strength", _tuple(self.strength), heads)[:, None]
        return distance_factors(
            x, y, weight / side**2 if self.unit == "side" else weight.expand(-1, len(side)), self.form
        )


@dataclass(frozen=True, kw_only=True)
class Polynomial(Prior):
    """sum_ab coefficients[a][b] i^a j^b of token order."""

    coefficients: tuple[tuple[float, ...], ...]

    def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> LowRank:
        return polynomial_factors(torch.tensor(self.coefficients, dtype=torch.float64), q.order, k.order)


@dataclass(frozen=True, kw_only=True)
class Cosine(Prior):
    """amplitude cos(2 pi (i - j) / period) along token order, or along one axis of the grid.

    Raises ValueError for options out of range.
    """

    period: float
    amplitude: float = 1.0
    axis: Literal["order", "t", "y", "x"] = "order"

    def __post_init__(self) -> None:
        _check_choice("axis", self.axis, ("order", "t", "y", "x"))
        if not self.period > 0:
            raise ValueError(f"period={self.period} must be positive, in tokens")

    @property
    def neutral(self) -> bool:
        return self.amplitude == 0

    def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> LowRank:
        i, j = (s.order if self.axis == "order" else s.place[:, "tyx".index(self.axis)] for s in (q, k))
        wave = cosine_factors(2 * math.pi / self.period, i, j)
        return LowRank(self.amplitude * wave.phi_q, wave.phi_k)


@dataclass(frozen=True, kw_only=True)
class SegmentBias(Prior):
    """A value for every pair of segments: (("image", "text", 0.5),) lifts what the image reads from the text.

    Each entry is queries, keys (segment kinds or names) and the value; where entries overlap they add.
    """

    values: tuple[tuple[str, str, float], ...]

    @property
    def neutral(self) -> bool:
        return not any(value for _, _, value in self.values)

    def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> LowRank:
        blocks = [
            block_factors(torch.tensor([[value]], dtype=torch.float64), _label(q.of(at)), _label(k.of(to)))
            for at, to, value in self.values
        ]
        return LowRank(*(torch.cat([getattr(b, side) for b in blocks], dim=-1) for side in ("phi_q", "phi_k")))


def places_on_axes(
    q: PriorTokens, k: PriorTokens
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"], Float[Tensor, " d"]]:
    """Centred places along the axes on which tokens differ, and how long each axis is (y and x: the longer one)."""
    x, y = q.place, k.place
    last = torch.cat((x, y)).amax(dim=0)  # (t y x)
    side = torch.stack((last[0], *(last[1:].max().expand(2)))) + 1
    axes = last > 0 if (last > 0).any() else torch.tensor([False, False, True])
    return (x - last / 2)[:, axes], (y - last / 2)[:, axes], side[axes]


def per_head(name: str, values: tuple[float, ...], heads: int) -> Float[Tensor, " h"]:
    """One value, or one per head, as a tensor.

    Raises ValueError for another number of values than heads.
    """
    if len(values) not in (1, heads):
        raise ValueError(f"{name}={values} has {len(values)} entries for {heads} heads; give one, or one per head")
    return torch.tensor(values, dtype=torch.float64)


def _tuple(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _label(inside: Tensor) -> Tensor:
    return inside.long() - 1


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name}='{value}' must be one of {known}")
