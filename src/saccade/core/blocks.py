"""A mask bound to its tokens: answers by pair, by row, by block, and in exact counts, never holding n x m at once.

Blocks the mask can judge as a whole are not looked into, so the cost of a map or a count follows the mask's border.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from saccade.core.coarse import Coarse, blocks, unknown
from saccade.core.shapes import broadcast_shape

EMPTY, MIXED, FULL = 0, 1, 2
PAIRS = 1 << 20  # pairs looked at together: what fits the cache
JUDGED = 1 << 22  # blocks judged together
SIDE = 64  # of the blocks in which pairs are counted


@dataclass(frozen=True, eq=False)
class Bound:
    """`allows(b, h, q, k)` over index tensors that broadcast; it can serve as a flex `mask_mod` as it is.

    n, m: queries and keys; batch, heads: how many rows and heads it distinguishes (1: the same for all).
    coarse: verdicts on whole blocks; closed: the number of allowed pairs where the mask knows it in closed form.
    """

    allows: Callable[[Tensor, Tensor, Tensor, Tensor], Bool[Tensor, "..."]]
    n: int
    m: int
    batch: int
    heads: int
    device: torch.device
    coarse: Coarse = unknown
    closed: int | None = None

    @property
    def total(self) -> int:
        """Pairs a dense map has, over the batch rows and heads it distinguishes."""
        return self.batch * self.heads * self.n * self.m

    def token(
        self, rows: Int[Tensor, " r"] | None = None, keys: Int[Tensor, " c"] | None = None
    ) -> Bool[Tensor, "b h r c"]:
        """The map, or its rows `rows` and columns `keys`, for every batch row and head it distinguishes."""
        q = self._arange(self.n) if rows is None else rows
        k = self._arange(self.m) if keys is None else keys
        return self._at(q[:, None], k[None])

    def pairs(self) -> int:
        """Exact number of allowed pairs, over the batch rows and heads it distinguishes."""
        return self._counted if self.closed is None else self.closed

    def density(self) -> float:
        """Share of pairs allowed, in [0, 1]."""
        return self.pairs() / max(self.total, 1)

    def empty_row(self) -> tuple[int, int, int] | None:
        """(batch, head, query) of the first query without a key, or None."""
        return self._lone

    def block_map(
        self,
        size_q: int,
        size_k: int,
        order_q: Int[Tensor, " n"] | None = None,
        order_k: Int[Tensor, " m"] | None = None,
    ) -> UInt8[Tensor, "b h Q K"]:
        """EMPTY, MIXED or FULL for each block of queries and keys, after reordering; last blocks may be short."""
        q = blocks(self._arange(self.n) if order_q is None else order_q, size_q)
        k = blocks(self._arange(self.m) if order_k is None else order_k, size_k)
        maps: list[Tensor] = []
        for _, rows, some, every in self._judged(q, k):
            for i, j, allowed in self._looked(rows, k, (some & ~every).any(1).any(0)):
                some[:, :, i, j], every[:, :, i, j] = allowed.flatten(-2).any(-1), allowed.flatten(-2).all(-1)
            maps.append(some.to(torch.uint8) + every.to(torch.uint8))
        return torch.cat(maps, dim=2)

    @cached_property
    def _counted(self) -> int:
        q, k = (blocks(self._arange(n), SIDE) for n in (self.n, self.m))
        return sum(int(self._keys(at, rows, k, some, every).sum()) for at, rows, some, every in self._judged(q, k))

    @cached_property
    def _lone(self) -> tuple[int, int, int] | None:
        q, k = (blocks(self._arange(n), SIDE) for n in (self.n, self.m))
        firsts: list[tuple[int, int, int]] = []
        for at, rows, some, every in self._judged(q, k):
            open_rows = every.any(-1).all(0).all(0)  # block rows in which every query has a key for certain
            keys = self._keys(at, rows, k, some & ~open_rows[:, None], every)
            for b, h, i in (keys == 0).nonzero()[:1]:  # in order, so the first of these block rows
                firsts.append((int(b), int(h), at + int(i)))
        return min(firsts, default=None)

    def _keys(self, at: int, rows: Tensor, k: Tensor, some: Tensor, every: Tensor) -> Int[Tensor, "b h r"]:
        """How many keys each query of the block rows from query `at` has."""
        real = torch.arange(k.numel(), device=self.device).reshape(k.shape) < self.m  # (K s)
        unsure = (some & ~every).any(1).any(0)
        known = ((every & ~unsure) * real.sum(-1)).sum(-1)  # (b h Q)
        keys = known[..., None].repeat(1, 1, 1, rows.shape[1])
        for i, j, allowed in self._looked(rows, k, unsure):
            keys.index_add_(2, i, (allowed & real[j][:, None]).sum(-1))
        return keys.flatten(2)[..., : self.n - at]

    def _judged(self, q: Tensor, k: Tensor) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """(first query, query blocks, some, every), a few block rows at a time; some, every (b h Q K)."""
        step = max(JUDGED // max(self.batch * self.heads * len(k), 1), 1)
        for number, rows in enumerate(torch.split(q, step)):
            verdict = self.coarse(rows, k)
            shape = (self.batch, self.heads, len(rows), len(k))
            some, every = (x.expand(shape).clone() for x in (verdict.some, verdict.every))
            yield number * step * q.shape[1], rows, some, every

    def _looked(self, q: Tensor, k: Tensor, unsure: Bool[Tensor, "Q K"]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(block rows i, block columns j, allowed (b h p s c)) over the blocks not judged, a few at a time."""
        step = max(PAIRS // max(self.batch * self.heads * q.shape[1] * k.shape[1], 1), 1)
        for i, j in zip(*(torch.split(x, step) for x in unsure.nonzero(as_tuple=True)), strict=True):
            yield i, j, self._at(q[i][:, :, None], k[j][:, None])

    def _at(self, q: Tensor, k: Tensor) -> Bool[Tensor, "b h ..."]:
        """The verdict of every batch row and head on pairs given by index tensors that broadcast."""
        at = broadcast_shape(q.shape, k.shape)
        ones = (1,) * len(at)
        b = self._arange(self.batch).reshape(-1, 1, *ones)
        h = self._arange(self.heads).reshape(1, -1, *ones)
        return self.allows(b, h, q[None, None], k[None, None]).expand(self.batch, self.heads, *at)

    def _arange(self, n: int) -> Int[Tensor, " n"]:
        return torch.arange(n, device=self.device)
