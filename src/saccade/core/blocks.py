"""A mask bound to its tokens: answers by pair, by row, by block, and in exact counts, never holding n x m for long."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

EMPTY, MIXED, FULL = 0, 1, 2
CHUNK = 1 << 24  # pairs evaluated at once


@dataclass(frozen=True, eq=False)
class Bound:
    """`allows(b, h, q, k)` over index tensors that broadcast; it can serve as a flex `mask_mod` as it is.

    n, m: queries and keys; batch, heads: how many rows and heads it tells apart (1: the same for all).
    """

    allows: Callable[[Tensor, Tensor, Tensor, Tensor], Bool[Tensor, "..."]]
    n: int
    m: int
    batch: int
    heads: int
    device: torch.device

    @property
    def total(self) -> int:
        """Pairs a dense map has, over the batch rows and heads told apart."""
        return self.batch * self.heads * self.n * self.m

    def token(
        self, rows: Int[Tensor, " r"] | None = None, keys: Int[Tensor, " c"] | None = None
    ) -> Bool[Tensor, "b h r c"]:
        """The map, or its rows `rows` and columns `keys`, for every batch row and head told apart."""
        arange = lambda n: torch.arange(n, device=self.device)  # noqa: E731
        q = arange(self.n) if rows is None else rows
        k = arange(self.m) if keys is None else keys
        b, h = arange(self.batch)[:, None, None, None], arange(self.heads)[None, :, None, None]
        shape = (self.batch, self.heads, len(q), len(k))
        return self.allows(b, h, q[None, None, :, None], k[None, None, None, :]).expand(shape)

    def chunks(self, order: Int[Tensor, " n"] | None = None, multiple: int = 1) -> Iterator[tuple[int, Tensor]]:
        """(start, query indices) such that each chunk's map stays small; chunk lengths are multiples of `multiple`."""
        size = max(CHUNK // max(self.batch * self.heads * self.m, 1) // multiple, 1) * multiple
        order = torch.arange(self.n, device=self.device) if order is None else order
        for start in range(0, self.n, size):
            yield start, order[start : start + size]

    def pairs(self) -> int:
        """Exact number of allowed pairs, over the batch rows and heads told apart."""
        return self._counts[0]

    def density(self) -> float:
        """Share of pairs allowed, in [0, 1]."""
        return self.pairs() / max(self.total, 1)

    def empty_row(self) -> tuple[int, int, int] | None:
        """(batch, head, query) of the first query without a key, or None."""
        return self._counts[1]

    @cached_property
    def _counts(self) -> tuple[int, tuple[int, int, int] | None]:
        total, first = 0, None
        for start, rows in self.chunks():
            keys = self.token(rows).sum(-1)  # (b h r)
            total += int(keys.sum())
            if first is None and (lone := (keys == 0).nonzero()).numel():
                b, h, q = lone[0].tolist()
                first = (b, h, start + q)
        return total, first

    def block_map(
        self,
        size_q: int,
        size_k: int,
        order_q: Int[Tensor, " n"] | None = None,
        order_k: Int[Tensor, " m"] | None = None,
    ) -> UInt8[Tensor, "b h Q K"]:
        """EMPTY, MIXED or FULL for each block of queries and keys, after reordering; last blocks may be short."""
        keys = torch.arange(self.m, device=self.device) if order_k is None else order_k
        parts = [_classify(self.token(rows, keys), size_q, size_k) for _, rows in self.chunks(order_q, size_q)]
        return torch.cat(parts, dim=2)


def _classify(allowed: Bool[Tensor, "b h n m"], size_q: int, size_k: int) -> UInt8[Tensor, "b h Q K"]:
    short_q, short_k = (-allowed.shape[2]) % size_q, (-allowed.shape[3]) % size_k
    pad = lambda value: _tile(torch.nn.functional.pad(allowed, (0, short_k, 0, short_q), value=value), size_q, size_k)  # noqa: E731
    some, every = pad(False).any(-1), pad(True).all(-1)
    return some.to(torch.uint8) + every.to(torch.uint8)


def _tile(x: Tensor, size_q: int, size_k: int) -> Tensor:
    """(b h n m) -> (b h Q K size_q*size_k)"""
    b, h, n, m = x.shape
    return x.reshape(b, h, n // size_q, size_q, m // size_k, size_k).transpose(3, 4).flatten(-2)
