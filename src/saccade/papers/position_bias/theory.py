"""What the theory says of a rollout of n layers, as numbers: limits, rates, brackets, peaks.

Columns j and rows i are counted from 0, layers n = t + 1 of the paper's P^(t). A bound holds for every layer's map on
the mask whose scores are at most `bound` in size: then each entry is at least eps = exp(-2 bound) / tokens.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import nbinom
from torch import Tensor

from saccade.papers.position_bias.maps import check_slope


def least_entry(bound: float, tokens: int) -> float:
    """eps = exp(-2 bound) / tokens, under every entry of a softmax of scores of at most `bound` in size."""
    return math.exp(-2 * bound) / tokens


def causal_bound(tokens: int, eps: float, layers: int) -> Float[Tensor, " {tokens}"]:
    """T1: of each column j, (1 - j eps)^layers; the first token takes what the others lose.

    Reason: the product of lower triangular maps has diagonal entries of at most 1 - j eps a layer.
    """
    return (1 - eps * torch.arange(tokens, dtype=torch.float64)) ** layers


def window_bound(tokens: int, width: int, eps: float, layers: int) -> Float[Tensor, " {tokens}"]:
    """T2: of each column j, (1 - j eps^L)^(layers / 2L) with L = ceil((tokens - 1) / (width - 1)) layers to cross.

    Raises ValueError for a width below 2, with which nothing moves.
    """
    if width < 2:
        raise ValueError(f"width={width} lets a token see itself alone, so nothing collapses; give at least 2")
    across = max(math.ceil((tokens - 1) / (width - 1)), 1)
    return (1 - eps**across * torch.arange(tokens, dtype=torch.float64)) ** (layers / (2 * across))


def window_drift(width: int, layers: int) -> float:
    """Before collapse, how many tokens to the left the mass lies: (width - 1) / 2 a layer."""
    return (width - 1) / 2 * layers


def prefix_limit(tokens: int, length: int) -> Float[Tensor, " {tokens}"]:
    """T3 for content all alike: each of the prefix's tokens ends with 1 / length."""
    return torch.where(torch.arange(tokens) < length, 1.0 / length, 0.0).double()


def decay_bracket(distance: Tensor, slope: float, bound: float) -> tuple[Tensor, Tensor]:
    """T4: one layer's entry at each distance d lies within exp(-2B) (1 - q) exp(-m d) and exp(2B) exp(-m d)."""
    check_slope(slope)
    fall = torch.exp(-slope * distance.double())
    return -math.expm1(-slope) * math.exp(-2 * bound) * fall, math.exp(2 * bound) * fall


def depth_bracket(free: Float[Tensor, "n n"], bound: float, layers: int) -> tuple[Tensor, Tensor]:
    """T5: the rollout of `layers` maps with content lies, entry by entry, within exp(-+2 B layers) A0^layers.

    free   A0, the map of the same mask and decay without content
    """
    power = torch.linalg.matrix_power(free.double(), layers)
    return math.exp(-2 * bound * layers) * power, math.exp(2 * bound * layers) * power


def decay_law(distance: Tensor, slope: float, layers: int) -> Float[Tensor, "..."]:
    """T5 for content all alike, far from the first token: binom(n - 1 + d, d) (1 - q)^n q^d, negative binomial in d.

    Raises ValueError for a slope that is not above 0: without decay there is no such law.
    """
    check_slope(slope)
    if slope == 0:
        raise ValueError("slope=0 is no decay, and then no place is far from the first token; give a slope above 0")
    return torch.from_numpy(np.asarray(nbinom.pmf(distance.numpy(), layers, -math.expm1(-slope))))


def peak_distance(layers: int, slope: float) -> int:
    """d*, how many tokens back the bulk of the mass peaks: floor((n - 1) / (e^m - 1)).

    Mass that reached the first token is no part of it. Raises ValueError for a slope that is not above 0.
    """
    check_slope(slope)
    if slope == 0:
        raise ValueError("slope=0 has no peak: the first token is favoured from two layers on")
    return math.floor((layers - 1) / math.expm1(slope))


def crossover_depth(distance: int, slope: float) -> float:
    """Layers from which the bulk's peak has come `distance` tokens back: 1 + distance (e^m - 1)."""
    check_slope(slope)
    return 1 + distance * math.expm1(slope)


def rotary_bracket(scale: float, angle: Tensor) -> tuple[Tensor, Tensor]:
    """T6 for one pair of channels and equal q and k: A_ij / A_ii within exp(-s x^2 / 2) and exp(-2 s x^2 / pi^2).

    scale   s = |q| |k| / sqrt(2)
    angle   x = (i - j) theta in [0, pi]
    Raises ValueError outside of it.
    """
    x = angle.double()
    if x.min() < 0 or x.max() > math.pi + 1e-9:
        raise ValueError(f"angle reaches from {float(x.min()):.3g} to {float(x.max()):.3g}; the bracket is for [0, pi]")
    return torch.exp(-scale * x**2 / 2), torch.exp(-2 * scale * x**2 / math.pi**2)


def rotary_law(distance: Tensor, theta: float, layers: int, strength: float = 0.5) -> Float[Tensor, "..."]:
    """T6 in depth, up to a factor: binom(n - 1 + d, d) exp(-c d^2 theta^2), scaled to a sum of one."""
    d = distance.double()
    ways = torch.lgamma(d + layers) - torch.lgamma(d + 1) - math.lgamma(layers)
    return torch.softmax(ways - strength * (d * theta) ** 2, dim=-1)


def kept_by_itself(diagonal: Float[Tensor, "t n"], share: Float[Tensor, " t"]) -> Float[Tensor, " n"]:
    """R1: what each token keeps of itself under a causal mask: the product of 1 - share + share A_jj over the layers.

    It goes to 0 while the shares' sum has no bound, and stays above 0 where it has one.
    """
    return (1 - share[:, None] + share[:, None] * diagonal).prod(0)
