"""One score for each position, whoever asks: `nonapprox` of the paper.

A_ij = exp(s_j) / sum_{l <= i} exp(s_l): every row is the softmax of a longer piece of one vector of scores,
s_j = silu(q_j) k_j / sqrt(e). So the ratio of two weights is the same in every row, and the output is a running mean:

    lse_i = log(exp(lse_{i-1}) + exp(s_i)),    out_i = exp(lse_{i-1} - lse_i) out_{i-1} + exp(s_i - lse_i) v_i

in which no exponent is above zero. The state is one vector and one number a head. Turning q_j and k_j by the same
angle, as rotary positions do, changes nothing.
Source: eq. 7, with its 1 / sqrt(e), which the paper's recurrent equation leaves out.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

PIECE = 64  # positions whose pairs are multiplied at once
NOWHERE = -1e30  # the score of padding: finite, so that a row of nothing else is no NaN


class RunningAverage(NamedTuple):
    """Of all values so far, weighed by exp(s), and the logarithm of the sum of weights."""

    out: Float[Tensor, "b h e"]
    lse: Float[Tensor, "b h"]


def scores(q: Float[Tensor, "*b n e"], k: Float[Tensor, "*b n e"]) -> Float[Tensor, "*b n"]:
    """s_j of every position, in single precision at least; q after its silu."""
    fine = torch.promote_types(q.dtype, torch.float32)
    return (q.to(fine) * k.to(fine)).sum(-1) * q.shape[-1] ** -0.5


def prefix_map(s: Float[Tensor, "*b n"], *, causal: bool = True) -> Float[Tensor, "*b n n"]:
    """The map of all pairs; rows sum to one, and are all alike where tokens see what is ahead."""
    if not causal:
        return s.softmax(-1)[..., None, :].expand(*s.shape, -1)
    past = torch.ones(s.shape[-1], s.shape[-1], dtype=torch.bool, device=s.device).tril()
    return s[..., None, :].expand(*s.shape, -1).masked_fill(~past, -torch.inf).softmax(-1)


def prefix_softmax(
    s: Float[Tensor, "b h n"], v: Float[Tensor, "b h n e"], state: RunningAverage | None = None, *, piece: int = PIECE
) -> tuple[Float[Tensor, "b h n e"], RunningAverage]:
    """The running average at every position, and where it stands; time O(n piece e).

    Raises ValueError for a sequence without tokens.
    """
    if s.shape[-1] == 0:
        raise ValueError("s holds no position; give at least one")
    outs: list[Tensor] = []
    for part, values in zip(s.split(piece, dim=-1), v.to(s.dtype).split(piece, dim=2), strict=True):
        out, state = _further(part, values, state)
        outs.append(out)
    assert state is not None
    return torch.cat(outs, dim=2).to(v.dtype), state


def _further(s: Tensor, v: Tensor, state: RunningAverage | None) -> tuple[Float[Tensor, "b h n e"], RunningAverage]:
    """One piece: its own map, merged with the average before it."""
    out, lse = prefix_map(s) @ v, s.logcumsumexp(-1)
    if state is not None:
        total = torch.logaddexp(lse, state.lse[..., None])
        before = (state.lse[..., None] - total).exp()[..., None]
        out, lse = before * state.out[:, :, None] + (lse - total).exp()[..., None] * out, total
    return out, RunningAverage(out[:, :, -1], lse[..., -1])
