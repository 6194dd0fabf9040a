"""Attention rollout: how much of a token's state comes from each input token, by the maps of all layers.

P = R_T ... R_2 R_1,    R_t = (1 - share_t) I + share_t A_t        rows: tokens asked, columns: where from

Values, output projections and feed-forwards are left out: rollout follows attention alone. The mean over heads before
the product is not the product of each head's maps: leading axes of the maps are kept apart, `head_mean` mixes them.
Source: Abnar & Zuidema, Quantifying attention flow in transformers (2020).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.checks import check_numbers

ROW_ERROR = 1e-4  # by which a row of float32 maps may miss one


@dataclass(frozen=True, kw_only=True)
class FallingShare:
    """Layer t, from 0, has the share `first` / (t + 1)^`power` of attention; the sum is finite for a power above 1.

    Raises ValueError for a negative or non-finite number.
    """

    first: float = 0.5
    power: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(first=self.first, power=self.power)
        for name, value in (("first", self.first), ("power", self.power)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name}={value} must be a finite number of at least 0")


Share = float | Sequence[float] | FallingShare


def shares(residual: Share | None, layers: int) -> Float[Tensor, " {layers}"]:
    """The share of attention in each of `layers` layers, clipped to [0, 1]; 1 without a residual.

    residual   one share for all layers, one for each, or how it falls with depth; x + A x has a share of 1/2
    Raises ValueError for NaN and for another number of shares than layers.
    """
    if residual is None:
        return torch.ones(layers, dtype=torch.float64)
    if isinstance(residual, FallingShare):
        t = torch.arange(1, layers + 1, dtype=torch.float64)
        found = residual.first / t**residual.power
    elif isinstance(residual, int | float):
        found = torch.full((layers,), float(residual), dtype=torch.float64)
    else:
        found = torch.as_tensor(list(residual), dtype=torch.float64)
    if found.shape != (layers,):
        raise ValueError(f"residual has {len(found)} shares for {layers} layers; give one for each")
    if found.isnan().any():
        raise ValueError(f"residual={residual} holds NaN; give shares in [0, 1]")
    return found.clamp(0, 1)


def rollout(
    maps: Sequence[Float[Tensor, "..."]] | Float[Tensor, "t ..."],
    residual: Share | None = None,
    *,
    mask: Literal["causal"] | None = None,
) -> Float[Tensor, "*b n n"]:
    """The product of the maps, first layer first in `maps`, in float64.

    maps       attention after softmax, each (*b n n); leading axes, as batch and heads, are kept apart
    residual   share of attention in R_t, see `shares`; None for the plain product
    mask       "causal" refuses attention to later tokens
    Raises ValueError for maps that are not square, hold NaN, or whose rows do not sum to one.
    Cost: layers x n^3 multiply-adds; rows alone, without maps, are `influence`'s and `front_row`'s.
    """
    if not len(maps):
        raise ValueError("maps holds no layer; give at least one")
    for number, each in enumerate(maps):
        check_map(each, name=f"maps[{number}]", causal=mask == "causal")
    steps = [mixed(each.double(), float(s)) for each, s in zip(maps, shares(residual, len(maps)), strict=True)]
    return reduce(lambda done, step: step @ done, steps)


def mixed(attention: Float[Tensor, "*b n n"], share: float) -> Float[Tensor, "*b n n"]:
    """R = (1 - share) I + share A."""
    return share * attention + (1 - share) * torch.eye(attention.shape[-1]).to(attention)


def head_mean(maps: Float[Tensor, "*b h n m"], weights: Sequence[float] | None = None) -> Float[Tensor, "*b n m"]:
    """The mean over heads, weighted if asked.

    Raises ValueError for another number of weights, a negative one, or all zero.
    """
    if weights is None:
        return maps.mean(-3)
    given = torch.tensor(list(weights), dtype=maps.dtype, device=maps.device)
    if len(given) != maps.shape[-3] or not (given >= 0).all() or not given.sum() > 0:
        raise ValueError(f"weights={list(weights)} must be {maps.shape[-3]} numbers of at least 0, one for each head")
    return torch.einsum("...hnm,h->...nm", maps, given / given.sum())


def check_map(attention: Tensor, *, name: str = "map", causal: bool = False) -> None:
    """Raise ValueError unless a map is square, and each row is a distribution, of past tokens where `causal`."""
    if attention.dim() < 2 or attention.shape[-1] != attention.shape[-2]:
        raise ValueError(f"{name} of shape {tuple(attention.shape)} must be square in its last two axes")
    if attention.isnan().any():
        raise ValueError(f"{name} holds NaN: a row was masked for all keys; let each token see itself")
    attention = attention.detach()
    off = float((attention.double().sum(-1) - 1).abs().max())
    if off > ROW_ERROR or attention.min() < 0:
        raise ValueError(
            f"{name} has a row that sums to 1 but for {off:.2g}, or a negative entry; give softmax's output"
        )
    if causal and (above := float(attention.triu(1).abs().max())) > 0:
        raise ValueError(f"{name} attends to later tokens by up to {above:.2g}; leave out mask='causal', or mask it")
