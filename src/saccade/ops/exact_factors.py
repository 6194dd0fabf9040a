"""Biases that are low-rank by their formula: exact factors, no fitting, no n x m map.

linear_factors      slope (j - i)             2 columns, or 1 if softmax may drop what is constant in a row
distance_factors    |x_i - y_j|^2 in d axes   3d columns, d + 2, or d + 1 without the row constant
polynomial_factors  sum c[a, b] i^a j^b       one column per power
cosine_factors      cos(w (i - j))            2 columns
block_factors       values[label_i, label_j]  one column per label
Each returns a `LowRank`; `a + b` adds two, `product(a, b)` multiplies them.

`form="keys"` drops terms that depend on the query alone. Softmax over exactly these keys does not notice; a softmax
that also sees keys without the bias (text beside an image, memory appended later) does, so there use another form.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.biases import LowRank

LinearForm = Literal["both", "keys"]
DistanceForm = Literal["each_axis", "minimal", "keys"]


def alibi_slopes(heads: int) -> Float[Tensor, " {heads}"]:
    """2^(-8 (h + 1) / heads), h = 0 .. heads - 1: geometric, also where `heads` is not a power of two.

    Raises ValueError for fewer than one head.
    """
    if heads < 1:
        raise ValueError(f"heads={heads} must be at least 1")
    return 2.0 ** (-8 * torch.arange(1, heads + 1, dtype=torch.float64) / heads)


def linear_factors(
    slope: Float[Tensor, " h"], i: Float[Tensor, " n"], j: Float[Tensor, " m"], form: LinearForm = "both"
) -> LowRank:
    """slope (j - i): never positive for keys before the query. "both" is exact, "keys" only up to a row constant."""
    slope = slope.to(i)[None, :, None, None]
    if form == "keys":
        return LowRank(slope.expand(1, -1, len(i), 1), j[None, None, :, None])
    return LowRank(slope * _columns(-i, torch.ones_like(i)), _columns(torch.ones_like(j), j))


def reversed_linear_factors(
    slope: Float[Tensor, " h"], i: Float[Tensor, " n"], j: Float[Tensor, " m"], form: LinearForm = "both"
) -> LowRank:
    """slope (i - j), the sign printed in the FlashBias paper: a reward that grows with distance into the past."""
    return linear_factors(-slope, i, j, form)


def distance_factors(
    x: Float[Tensor, "n d"],
    y: Float[Tensor, "m d"],
    weight: Float[Tensor, "#h #d"] | None = None,
    form: DistanceForm = "minimal",
) -> LowRank:
    """-sum_a w_a (x_ia - y_ja)^2, weight (h d) per head and axis, ones by default.

    each_axis  3d columns, [x_a^2, 1, -2 x_a] . [1, y_a^2, y_a] per axis, times -w_a
    minimal    d + 2 columns, [2 w x, -|x|_w^2, 1] . [y, 1, -|y|_w^2]: the rank of a distance matrix
    keys       d + 1 columns, without the row constant |x|_w^2
    Weights stay on the side of x or of the squares, so that whole positions y stay whole numbers.
    Raises ValueError for an unknown form.
    """
    w = (torch.ones_like(x[:1]) if weight is None else weight.to(x)).expand(-1, x.shape[1])[None, :, None, :]
    x, y = x[None, None], y[None, None]
    wx, wx2, wy2 = w * x, w * x * x, w * y * y
    q_one, k_one = torch.ones_like(wx2[..., :1]), torch.ones_like(wy2[..., :1])
    y_all = y.expand_as(wy2)
    match form:
        case "each_axis":
            phi_q = (-wx2, -w.expand_as(wx2), 2 * wx)
            phi_k = (torch.ones_like(y), y * y, y)
        case "minimal":
            phi_q = (2 * wx, -wx2.sum(-1, keepdim=True), q_one)
            phi_k = (y_all, k_one, -wy2.sum(-1, keepdim=True))
        case "keys":
            phi_q, phi_k = (2 * wx, q_one), (y_all, -wy2.sum(-1, keepdim=True))
        case _:
            raise ValueError(f"form='{form}' must be one of {get_args(DistanceForm)}")
    return LowRank(torch.cat(phi_q, dim=-1), torch.cat(phi_k, dim=-1))


def polynomial_factors(coefficients: Float[Tensor, "p q"], i: Float[Tensor, " n"], j: Float[Tensor, " m"]) -> LowRank:
    """sum_ab coefficients[a, b] i^a j^b, with the powers of the side that has fewer of them as columns."""
    c = coefficients.to(i)
    powers_i, powers_j = _powers(i, c.shape[0]), _powers(j, c.shape[1])
    if c.shape[0] < c.shape[1]:
        return LowRank(powers_i[None, None], (powers_j @ c.T)[None, None])
    return LowRank((powers_i @ c)[None, None], powers_j[None, None])


def cosine_factors(frequency: float, i: Float[Tensor, " n"], j: Float[Tensor, " m"]) -> LowRank:
    """cos(frequency (i - j)); frequency in radians per position."""
    phi_q, phi_k = (_columns((frequency * at).cos(), (frequency * at).sin()) for at in (i, j))
    return LowRank(phi_q, phi_k)


def block_factors(values: Float[Tensor, "*h Q K"], label_q: Int[Tensor, " n"], label_k: Int[Tensor, " m"]) -> LowRank:
    """values[label_q[i], label_k[j]]: one value per pair of segments, windows or regions; 0 where a label is -1."""
    values = values[(None,) * (4 - values.ndim)]
    phi_q, phi_k = (
        _one_hot(label, size, values) for label, size in ((label_q, values.shape[-2]), (label_k, values.shape[-1]))
    )
    return LowRank(phi_q @ values, phi_k) if values.shape[-1] <= values.shape[-2] else LowRank(phi_q, phi_k @ values.mT)


def product(a: LowRank, b: LowRank) -> LowRank:
    """The two biases multiplied pair by pair: every column of one times every column of the other."""
    phi_q, phi_k = (
        (x[..., :, None] * y[..., None, :]).flatten(-2) for x, y in ((a.phi_q, b.phi_q), (a.phi_k, b.phi_k))
    )
    return LowRank(phi_q, phi_k)


def _columns(*columns: Tensor) -> Tensor:
    return torch.stack(columns, dim=-1)[None, None]


def _powers(at: Tensor, count: int) -> Tensor:
    return at[:, None] ** torch.arange(count, device=at.device)


def _one_hot(label: Tensor, size: int, like: Tensor) -> Tensor:
    return (label[:, None] == torch.arange(size, device=label.device)).to(like)[None, None]
