"""A block pattern as the lists a kernel walks: the blocks each block reads, open ones before mixed ones, and bits.

The only place where this kernel reads a `Pattern`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, Int32, UInt8
from torch import Tensor

from saccade.core.blocks import FULL, MIXED
from saccade.ops.pattern import Pattern, Size

WORD = 32  # pairs of one word of bits


@dataclass(frozen=True, eq=False, kw_only=True)
class Lists:
    """What each block reads, for P = batch x heads rows of the pattern and B blocks a row.

    order   blocks of a row, the one that reads most first: what starts first ends last
    spans   by block: where its part of `cols` begins, how many open blocks stand there, how many mixed ones follow
    cols    numbers of the blocks read; which: the token map of each, counted only where it is mixed
    """

    order: Int32[Tensor, "P B"]
    spans: Int32[Tensor, "P B 3"]
    cols: Int32[Tensor, " N"]
    which: Int32[Tensor, " N"]


@dataclass(frozen=True, eq=False, kw_only=True)
class KernelLists:
    """A pattern for the kernel; `bits` has one bit for each pair of a token map, the lowest for the first key.

    heads_of  batch rows and heads the pattern distinguishes
    order_q, order_k  token numbers in the pattern's order; None where the tokens stand as they are
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
    moved = pattern.order is not None
    return KernelLists(
        size=pattern.size,
        heads_of=(pattern.map.shape[0], pattern.map.shape[1]),
        forward=listed(pattern.map, pattern.tile_of),
        bits=packed(pattern.tiles),
        order_q=_numbers(pattern.order_q, pattern.n) if moved else None,
        order_k=_numbers(pattern.order_k, pattern.m) if moved else None,
    )


def transposed(pattern: Pattern) -> Lists:
    """The query blocks that read each key block: what the gradients of keys and values walk."""
    return listed(pattern.map.mT, pattern.tile_of.mT)


def packed(tiles: Bool[Tensor, "T s c"]) -> Int32[Tensor, "T s words"]:
    """32 pairs a word, the first key in the lowest bit; c must be a multiple of 32."""
    weights = torch.ones((), dtype=torch.int64, device=tiles.device) << torch.arange(WORD, device=tiles.device)
    words = (tiles.unflatten(-1, (-1, WORD)) * weights).sum(-1)
    return (words - (words >> 31 << 32)).to(torch.int32)  # the highest bit is the sign


def counts(pattern: Pattern) -> tuple[int, int]:
    """How many blocks are open and how many mixed, over the batch rows and heads distinguished."""
    return int((pattern.map == FULL).sum()), int((pattern.map == MIXED).sum())


def listed(map_: UInt8[Tensor, "b h R C"], tile_of: Int[Tensor, "b h R C"]) -> Lists:
    """Lists of a map of blocks, EMPTY, MIXED or FULL, and of the token map of each."""
    kinds, tiles = (x.flatten(0, 1) for x in (map_, tile_of))  # (P R C)
    full, some = (kinds == FULL).sum(-1), (kinds > 0).sum(-1)
    columns = torch.argsort(FULL - kinds.to(torch.int16), dim=-1, stable=True)
    taken = torch.arange(kinds.shape[-1], device=kinds.device) < some[..., None]
    starts = some.flatten().cumsum(0).view_as(some) - some
    return Lists(
        order=_int32(torch.argsort(some, dim=-1, descending=True, stable=True)),
        spans=_int32(torch.stack((starts, full, some - full), dim=-1)),
        cols=_int32(columns[taken]),
        which=_int32(tiles.gather(-1, columns)[taken]),
    )


def _numbers(order: Tensor | None, n: int) -> Int32[Tensor, " n"]:
    assert order is not None
    return _int32(order[:n])


def _int32(x: Tensor) -> Tensor:
    return x.to(torch.int32).contiguous()
