"""A mask bound to its tokens: answers by pair, by row, by block, and in exact counts, never holding n x m at once.

Blocks the mask can judge as a whole are not looked into, so the cost of a map or a count follows the mask's border.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from saccade.core.coarse import Coarse, Verdict, blocks, unknown
from saccade.core.features import Features, distinct, features
from saccade.core.regions import Regions
from saccade.core.shapes import broadcast_shape
from saccade.core.survey import PAIRS, Survey, survey

EMPTY, MIXED, FULL = 0, 1, 2
SIDE = 64  # of the blocks in which pairs are counted


@dataclass(frozen=True, eq=False)
class Bound:
    """`allows(b, h, q, k)` over index tensors that broadcast; it can serve as a flex `mask_mod` as it is.

    n, m: queries and keys; batch, heads: how many rows and heads it distinguishes (1: the same for all).
    coarse: verdicts on whole blocks; closed: the number of allowed pairs where the mask knows it in closed form.
    features: what a verdict depends on; None: on the very tokens.
    regions: the same as verdicts between regions, where it is that: then counts and blocks are read from those.
    """

    allows: Callable[[Tensor, Tensor, Tensor, Tensor], Bool[Tensor, "..."]]
    n: int
    m: int
    batch: int
    heads: int
    device: torch.device
    coarse: Coarse = unknown
    closed: int | None = None
    features: Callable[[], Features] | None = None
    regions: Regions | None = None

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
        return self.at(q[:, None], k[None])

    def at(self, q: Int[Tensor, "*#p"], k: Int[Tensor, "*#p"]) -> Bool[Tensor, "b h *p"]:
        """The verdict of every batch row and head on pairs given by index tensors that broadcast."""
        at = broadcast_shape(q.shape, k.shape)
        ones = (1,) * len(at)
        b = self._arange(self.batch).reshape(-1, 1, *ones)
        h = self._arange(self.heads).reshape(1, -1, *ones)
        return self.allows(b, h, q[None, None], k[None, None]).expand(self.batch, self.heads, *at)

    def pairs(self) -> int:
        """Exact number of allowed pairs, over the batch rows and heads it distinguishes."""
        if self.regions is not None:
            return self.regions.pairs(self.m)
        return self._counted if self.closed is None else self.closed

    def density(self) -> float:
        """Share of pairs allowed, in [0, 1]."""
        return self.pairs() / max(self.total, 1)

    def empty_row(self) -> tuple[int, int, int] | None:
        """(batch, head, query) of the first query without a key, or None."""
        return self._lone if self.regions is None else self.regions.empty_row(self.m)

    def survey(self, q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"]) -> Survey:
        """Which of these blocks are open, and kinds of those that are mixed."""
        return survey(
            q, k, self.m, coarse=self.coarse, alike=self._features.alike(q, k), look=self.at,
            times=self.batch * self.heads,
        )  # fmt: skip

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
        found = self.survey(q, k)
        flat = torch.zeros(self.batch * self.heads * len(q), len(k), dtype=torch.uint8, device=self.device)
        flat[found.rows, found.cols] = FULL
        map_ = flat.view(self.batch, self.heads, len(q), len(k))
        kinds = [allowed.flatten(-2).any(-1).byte() + allowed.flatten(-2).all(-1) for _, allowed in found.looked()]
        if kinds:
            map_[:, :, found.i, found.j] = torch.cat(kinds, dim=2)[:, :, found.like]
        return map_

    @cached_property
    def _features(self) -> Features:
        if self.features is not None:
            return self.features()
        return features(q=self._arange(self.n), k=self._arange(self.m), n=self.n, m=self.m)

    @cached_property
    def _counted(self) -> int:
        q, k = (blocks(self._arange(n), SIDE) for n in (self.n, self.m))
        found = self.survey(q, k)
        real_q, real_k = (self._arange(x.numel()).view(x.shape) < n for x, n in ((q, self.n), (k, self.m)))
        size_q, size_k, times = real_q.sum(-1), real_k.sum(-1), found.like.bincount(minlength=len(found.first))
        count = int((size_q[found.rows % len(q)] * size_k[found.cols]).sum())
        for (at, allowed), repeated in zip(found.looked(), torch.split(times, found.step), strict=True):
            real = real_q[found.i[at]][:, :, None] & real_k[found.j[at]][:, None]
            count += int(((allowed & real).sum((0, 1, 3, 4)) * repeated).sum())
        return count

    @cached_property
    def _lone(self) -> tuple[int, int, int] | None:
        """Most queries see themselves, the first key or the last; for the others open blocks are sought, then keys."""
        every = self._arange(self.n)
        seen = [self.at(every, key) for key in (every.clamp(max=self.m - 1), every * 0, every * 0 + self.m - 1)]
        doubtful = ~(seen[0] | seen[1] | seen[2])  # (b h n)
        q, k = (blocks(self._arange(n), SIDE) for n in (self.n, self.m))
        judge, rows = self.coarse(q, k), doubtful.any(0).any(0).nonzero()[:, 0]
        found = [self._first_lone(q[i], k, judge(i[None], self._arange(len(k)))) for i in distinct(rows // SIDE)[0]]
        return min((first for first in found if first is not None), default=None)

    def _first_lone(
        self, rows: Int[Tensor, " s"], k: Int[Tensor, "K s"], verdict: Verdict
    ) -> tuple[int, int, int] | None:
        """The first of these queries that sees no key; the verdict is that of all key blocks."""
        if bool(verdict.every.any(-1).all()):
            return None
        some = verdict.some.flatten(0, 1).any(0).expand(len(k)).nonzero()[:, 0]
        seen = torch.zeros(self.batch, self.heads, len(rows), dtype=torch.bool, device=self.device)
        for part in torch.split(some, max(PAIRS // (self.batch * self.heads * k[0].numel() * len(rows)), 1)):
            seen |= self.at(rows[:, None], k[part].flatten()[None]).any(-1)
        lone = (~seen).nonzero()
        return (int(lone[0, 0]), int(lone[0, 1]), int(rows[lone[0, 2]])) if len(lone) else None

    def _arange(self, n: int) -> Int[Tensor, " n"]:
        return torch.arange(n, device=self.device)
