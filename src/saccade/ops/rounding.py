"""What half precision does to factors, and columns that survive it.

Positions are exact in float16 up to 2048 and in bfloat16 up to 256; past that phi_q phi_k^T is off by whole units. A
column that is not exact can be split into its rounded value and the rest: [j] -> [j_high, j_low], opposite [m, m].
"""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.ops.remembered import remembered


def split_positions(j: Float[Tensor, " m"], base: int = 128) -> Float[Tensor, "m 2"]:
    """[base a, b] with j = base a + b and 0 <= b < base; pair it with phi_q = [slope, slope].

    base 128 is exact in float16 up to 16384 and beyond, and in bfloat16 up to 32640.
    """
    low = j.remainder(base)
    return torch.stack((j - low, low), dim=-1)


def split(bias: LowRank, dtype: torch.dtype = torch.bfloat16) -> LowRank:
    """The same bias, with columns that keep twice the bits when a kernel casts them to `dtype`.

    A column exact in `dtype` stays; any other becomes its rounded value and the rest. A position times a slope takes 1
    to 4 columns. Not for use inside a graph: the number of columns follows from the data.
    """
    pairs = [(q, k) for q in _rounded(bias.phi_q, dtype) for k in _rounded(bias.phi_k, dtype)]
    in_use = [((_peak(q) > 0) & (_peak(k) > 0)).nonzero().flatten() for q, k in pairs]
    columns = [(q[..., used], k[..., used]) for (q, k), used in zip(pairs, in_use, strict=True)]
    return LowRank(*(torch.cat(side, dim=-1) for side in zip(*columns, strict=True)))


def rounding_error(bias: LowRank, dtype: torch.dtype) -> float:
    """An upper bound on |bias - bias with factors rounded to dtype|, over all pairs. Cost O((n + m) r), once."""
    (q, lost_q), (k, lost_k) = (_peaks(phi, dtype) for phi in (bias.phi_q, bias.phi_k))
    return float((lost_q * k + q * lost_k + lost_q * lost_k).sum())


def _peaks(phi: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Peaks of the rounded values and of what they miss, on the CPU; read once for the same factors."""
    return remembered(phi, ("rounded", dtype), lambda: tuple(_peak(x.detach()).cpu() for x in _rounded(phi, dtype)))


def _rounded(phi: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The values `dtype` can hold, and what they miss."""
    near = phi.to(dtype).to(phi.dtype)
    return near, phi - near


def _peak(phi: Tensor) -> Tensor:
    """(r) largest absolute value per column."""
    return phi.abs().flatten(end_dim=-2).amax(dim=0) if phi.numel() else phi.new_zeros(phi.shape[-1])
