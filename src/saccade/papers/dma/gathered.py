"""Each block of queries attends to a copy of the keys alive in it, which are no more than w and its own.

No map of all pairs is held, in neither direction. Blocks go in pieces, so that the copies of one launch fit `ROOM`.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.core.biases import DenseBias, PerKey
from saccade.core.call import plain_call
from saccade.ops.dispatch import attend
from saccade.papers.dma.lifetimes import Lifetimes

ROOM = 1 << 24  # numbers in the keys copied at once


def attend_gathered(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b g m d"],
    v: Float[Tensor, "b g m dv"],
    bias: Float[Tensor, "b g m"],
    found: Lifetimes,
    scale: float,
) -> Float[Tensor, "b h n dv"]:
    """Attention over the keys that lifetimes leave. Cost: 2 b h n (w + block) (d + dv) FLOPs, and the copies."""
    b, h, n, _ = q.shape
    groups, keys = k.shape[1], found.candidates()
    blocks = _in_blocks(q, groups, found.block, keys.shape[2])
    step = max(ROOM // (b * groups * keys.shape[3] * (k.shape[3] + v.shape[3])), 1)
    outs = [
        _piece(part, k, v, bias, keys[:, :, at : at + step], found, at, scale)
        for at, part in zip(range(0, keys.shape[2], step), blocks.split(step, dim=2), strict=True)
    ]
    out = torch.cat(outs, dim=2).transpose(2, 3).flatten(1, 2)  # (b g t r s dv) -> (b h t s dv)
    return out.flatten(2, 3)[:, :, :n]


def _in_blocks(q: Tensor, groups: int, size: int, count: int) -> Float[Tensor, "b g t r s d"]:
    """Queries by block, the last one filled up with zeros."""
    filled = torch.nn.functional.pad(q, (0, 0, 0, count * size - q.shape[2]))
    return filled.unflatten(2, (count, size)).unflatten(1, (groups, -1)).transpose(2, 3)


def _piece(
    q: Float[Tensor, "b g t r s d"],
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    keys: Int[Tensor, "b g t c"],
    found: Lifetimes,
    first: int,
    scale: float,
) -> Float[Tensor, "b g t r s dv"]:
    """Some blocks as so many batch rows of one head, the queries of a group in one row."""
    ratio = q.shape[3]
    kept = _kept(found, keys, first)  # (b g t s c)
    some = kept.any(-1, keepdim=True)
    closed = torch.where(kept | ~some, 0.0, -torch.inf).to(q.dtype)
    mask = closed[:, :, :, None].expand(-1, -1, -1, ratio, -1, -1).flatten(3, 4).flatten(0, 2)[:, None]
    at = _numbers(keys, k.shape[2])
    k, v, bias = (x.flatten(0, 2).index_select(0, at).unflatten(0, (-1, 1, keys.shape[3])) for x in (k, v, bias))
    rows = q.flatten(3, 4).flatten(0, 2)[:, None]
    out = attend(plain_call(rows, k, v, scale=scale, bias=PerKey(bias) + DenseBias(mask))).out
    out = out.view(*q.shape[:-1], -1)
    return out.masked_fill(~some[:, :, :, None], 0.0)


def _kept(found: Lifetimes, keys: Int[Tensor, "b g t c"], first: int) -> Bool[Tensor, "b g t s c"]:
    """Which of its block's keys each query keeps; `first`: the number of the first block."""
    count, size = keys.shape[2], found.block
    places = found.ahead + torch.arange(first * size, (first + count) * size, device=keys.device)
    return found.keeps(keys[:, :, :, None], places.view(count, size, 1))


def _numbers(keys: Int[Tensor, "b g t c"], m: int) -> Int[Tensor, " all"]:
    """Keys numbered over batch rows and heads; absent ones are any key."""
    b, g = keys.shape[:2]
    return (keys.clamp(min=0) + m * torch.arange(b * g, device=keys.device).view(b, g, 1, 1)).flatten()
