"""Softmax whose exponential is a second-order Taylor series: `approx` of the paper, in both of its readings.

taylor      A_ij = T(x_ij) / sum_{l <= i} T(x_il),  T(x) = 1 + x + x^2 / 2,  x_ij = q_i k_j / sqrt(e)
            T = ((1 + x)^2 + 1) / 2 >= 1/2: no weight vanishes. T(x_ij) = phi(q_i) phi(k_j) with features of width
            1 + e + e^2, so a sum of phi(k) v^T stands for all keys that went by.
per_order   out = mean of v + linear attention by q k + linear attention by the squares q^2 k^2, channel by channel; the
            rows of its map sum to three. Its state is three vectors and two e x e matrices a head, as the paper's
            tables say. The sums of q k that divide may vanish or turn negative: they are kept `LEAST` from zero.

Both take a sequence in pieces: `(out, state) = f(q, k, v, state)`, None before the first piece.
Source: eq. 6 and, for the second, eq. 14 to 17; Arora et al., "Based" (2024).
"""

from typing import NamedTuple
from warnings import warn

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LEAST = 1e-6


class FeatureSums(NamedTuple):
    """Of all keys so far: sum of phi(k) v^T, and of phi(k)."""

    kv: Float[Tensor, "b h f e"]
    k: Float[Tensor, "b h f"]


class OrderSums(NamedTuple):
    """Of all keys so far: their number; sums of v, k and k^2; sums of k v^T and of k^2 v^T."""

    count: Float[Tensor, ""]
    v: Float[Tensor, "b h e"]
    k: Float[Tensor, "b h e"]
    k2: Float[Tensor, "b h e"]
    kv: Float[Tensor, "b h e e"]
    k2v: Float[Tensor, "b h e e"]


def series(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """T(x), at least 1/2."""
    return ((1 + x).square() + 1) / 2


def features(z: Float[Tensor, "*n e"]) -> Float[Tensor, "*n f"]:
    """phi(z) = [1, z / e^(1/4), z z^T / sqrt(2 e)], so that phi(q) phi(k) = T(q k / sqrt(e))."""
    small = z / z.shape[-1] ** 0.25
    pairs = (small[..., :, None] * small[..., None, :]).flatten(-2) / 2**0.5
    return torch.cat((torch.ones_like(small[..., :1]), small, pairs), dim=-1)


def taylor_map(
    q: Float[Tensor, "*b n e"], k: Float[Tensor, "*b n e"], *, causal: bool = True
) -> Float[Tensor, "*b n n"]:
    """The map of all pairs; rows sum to one."""
    weights = _series_of(q, k, causal)
    return weights / weights.sum(-1, keepdim=True)


def _series_of(q: Tensor, k: Tensor, causal: bool = True) -> Float[Tensor, "*b n n"]:
    weights = series(q @ k.mT * q.shape[-1] ** -0.5)
    return weights.tril() if causal else weights


def taylor(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    state: FeatureSums | None = None,
    *,
    there: Bool[Tensor, "b n"] | None = None,
    remember: bool = True,
) -> tuple[Float[Tensor, "b h n e"], FeatureSums | None]:
    """Pairs within the piece, and features for what went before it.

    there      false at padding, which no token sees
    remember   make a state, which is wide: (e^2 + e + 1) (e + 1) numbers a head
    """
    weights = _series_of(q, k)
    if there is not None:
        weights, v = weights * there[:, None, None], v.masked_fill(~there[:, None, :, None], 0)
    above, below = weights @ v, weights.sum(-1, keepdim=True)
    if state is not None:
        sides = features(q)
        above, below = above + sides @ state.kv, below + sides @ state.k[..., None]
    below = below.masked_fill(below == 0, 1)  # of padding that nothing stands before
    return above / below, _summed(k, v, state, there) if remember else None


def _summed(k: Tensor, v: Tensor, state: FeatureSums | None, there: Tensor | None) -> FeatureSums:
    sides = features(k) if there is None else features(k) * there[:, None, :, None]
    found = FeatureSums(sides.mT @ v, sides.sum(2))
    return found if state is None else FeatureSums(*(a + b for a, b in zip(state, found, strict=True)))


def per_order_map(
    q: Float[Tensor, "*b n e"], k: Float[Tensor, "*b n e"], *, causal: bool = True
) -> Float[Tensor, "*b n n"]:
    """The sum of the three maps; rows sum to three."""
    products = q @ k.mT
    orders = torch.ones_like(products), products, q.square() @ k.square().mT
    rows = [_even_rows(each.tril() if causal else each) for each in orders]
    return rows[0] + rows[1] + rows[2]


def per_order(
    q: Float[Tensor, "b h n e"],
    k: Float[Tensor, "b h n e"],
    v: Float[Tensor, "b h n e"],
    state: OrderSums | None = None,
) -> tuple[Float[Tensor, "b h n e"], OrderSums]:
    """Mean, first and second order, added."""
    was = state or _none_before(k)
    numbers = was.count + torch.arange(1, k.shape[2] + 1, device=k.device, dtype=k.dtype)
    mean = (was.v[:, :, None] + v.cumsum(2)) / numbers[:, None]
    first = _linear(q, k, v, was.kv, was.k)
    second = _linear(q.square(), k.square(), v, was.k2v, was.k2)
    return mean + first + second, _went_by(k, v, was)


def _linear(q: Tensor, k: Tensor, v: Tensor, kv: Tensor, sums: Tensor) -> Float[Tensor, "b h n e"]:
    """Causal linear attention without features, going on from the sums of what went before."""
    weights = (q @ k.mT).tril()
    return (weights @ v + q @ kv) / away_from_zero(weights.sum(-1, keepdim=True) + q @ sums[..., None])


def _went_by(k: Tensor, v: Tensor, was: OrderSums) -> OrderSums:
    k2 = k.square()
    found = (v.sum(2), k.sum(2), k2.sum(2), k.mT @ v, k2.mT @ v)
    return OrderSums(was.count + k.shape[2], *(a + b for a, b in zip(was[1:], found, strict=True)))


def _none_before(k: Float[Tensor, "b h n e"]) -> OrderSums:
    vector = k.new_zeros(*k.shape[:2], k.shape[-1])
    matrix = k.new_zeros(*k.shape[:2], k.shape[-1], k.shape[-1])
    return OrderSums(k.new_zeros(()), vector, vector, vector, matrix, matrix)


def _even_rows(weights: Float[Tensor, "*b n n"]) -> Float[Tensor, "*b n n"]:
    return weights / away_from_zero(weights.sum(-1, keepdim=True))


def away_from_zero(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """x, its size at least `LEAST`, its sign kept; warns where that changes it (on the CPU, where asking is free).

    Source: ours; the paper divides by what may be zero.
    """
    small = x.abs() < LEAST
    if x.device.type == "cpu" and not torch.compiler.is_compiling() and bool(small.any()):
        warn(
            f"first-order sums came within {LEAST:g} of zero and were kept there; reading='taylor' cannot", stacklevel=4
        )
    return torch.where(small, torch.where(x < 0, -LEAST, LEAST).to(x), x)
