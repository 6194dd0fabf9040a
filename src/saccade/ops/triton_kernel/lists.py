"""A block pattern as the lists a kernel walks: the blocks each block reads, open ones before mixed ones, and bits.

The only place where this kernel reads a `Pattern`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Int32
from torch import Tensor

from saccade.ops.pattern import Pattern, Size

WORD = 32  # pairs of one word of bits


@dataclass(frozen=True, eq=False, kw_only=True)
class Lists:
    """What each block reads, for P = batch x heads rows of the pattern and B blocks a row.

    order   blocks of a row, the one that reads most first: what starts first ends last
    spans   by block: where its part of `cols` begins, how many open blocks stand there, how many mixed ones follow
    cols    numbers of the blocks read; which: the token map of each, 0 where it is open
    """

    order: Int32[Tensor, "P B"]
    spans: Int32[Tensor, "P B 3"]
    cols: Int32[Tensor, " N"]
    which: Int32[Tensor, " N"]


@dataclass(frozen=True, eq=False, kw_only=True)
class KernelLists:
    """A pattern for the kernel; `bits` has one bit for each pair of a token map, the lowest for the first key.

    heads_of  batch rows and heads the pattern distinguishes
    order_q, order_k  token numbers in the pattern's order; None where the tokens stand as they are, and where they
                      must be laid out first, see `Pattern.gaps`
    """

    size: Size
    heads_of: tuple[int, int]
    forward: Lists
    bits: Int32[Tensor, "T s words"]
    order_q: Int32[Tensor, " n"] | None
    order_k: Int32[Tensor, " m"] | None


def kernel_lists(pattern: Pattern) -> KernelLists:
    """Lists of the key blocks that each query block reads. Raises ValueError where the pattern has no token maps."""
    if pattern.tiles is None:
        raise ValueError("the pattern keeps no token maps: too many of its mixed blocks differ")
    moved = pattern.order is not None and not pattern.gaps
    b, h, queries, _ = pattern.shape
    return KernelLists(
        size=pattern.size,
        heads_of=(b, h),
        forward=listed(pattern.rows, pattern.cols, pattern.which, (b * h, queries)),
        bits=packed(pattern.tiles),
        order_q=_numbers(pattern.order_q, pattern.n) if moved else None,
        order_k=_numbers(pattern.order_k, pattern.m) if moved else None,
    )


def transposed(pattern: Pattern) -> Lists:
    """The query blocks that read each key block: what the gradients of keys and values walk."""
    b, h, queries, keys = pattern.shape
    rows = pattern.rows // queries * keys + pattern.cols
    return listed(rows, pattern.rows % queries, pattern.which, (b * h, keys))


def listed(rows: Int[Tensor, " N"], cols: Int[Tensor, " N"], which: Int[Tensor, " N"], shape: Size) -> Lists:
    """Lists for P x B blocks of `shape`: which of them, `rows`, reads which one, `cols`; token map 0 is open."""
    places = torch.argsort(rows * 2 + (which > 0), stable=True)
    some, full = _count(rows, torch.ones_like(which), shape), _count(rows, (which == 0).to(which.dtype), shape)
    starts = some.flatten().cumsum(0).view(shape) - some
    return Lists(
        order=_int32(torch.argsort(some, dim=-1, descending=True, stable=True)),
        spans=_int32(torch.stack((starts, full, some - full), dim=-1)),
        cols=_int32(cols[places]),
        which=_int32(which[places]),
    )


def packed(tiles: Bool[Tensor, "T s c"]) -> Int32[Tensor, "T s words"]:
    """32 pairs a word, the first key in the lowest bit; c must be a multiple of 32."""
    weights = torch.ones((), dtype=torch.int64, device=tiles.device) << torch.arange(WORD, device=tiles.device)
    words = (tiles.unflatten(-1, (-1, WORD)) * weights).sum(-1)
    return (words - (words >> 31 << 32)).to(torch.int32)  # the highest bit is the sign


def _count(rows: Int[Tensor, " N"], times: Int[Tensor, " N"], shape: Size) -> Int[Tensor, "P B"]:
    """How often each row comes, each time counted so often; waits for nothing."""
    count = torch.zeros(shape[0] * shape[1], dtype=torch.int64, device=rows.device)
    return count.index_add_(0, rows, times.to(torch.int64)).view(shape)


def _numbers(order: Tensor | None, n: int) -> Int32[Tensor, " n"]:
    assert order is not None
    return _int32(order[:n])


def _int32(x: Tensor) -> Tensor:
    return x.to(torch.int32).contiguous()
