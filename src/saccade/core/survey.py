"""Find the blocks a mask opens, from coarse to fine, and look pair by pair only at those of the border, once a kind.

Large blocks are judged first; only what is neither surely closed nor surely open is parted and judged again. Of the
blocks still unsure at the end those alike (`Features.alike`) share one look. So the work grows with the blocks kept,
not with their square.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.core.coarse import Coarse, Judge, Verdict
from saccade.core.features import Alike

FOLD = 4  # blocks of a side that are judged as one at the next coarser level
TOP = 1 << 14  # pairs of blocks at the coarsest level
JUDGED = 1 << 20  # pairs of blocks judged together
PAIRS = 1 << 20  # pairs of tokens looked at together: what fits the cache

Look = Callable[[Tensor, Tensor], Tensor]  # queries (u s 1), keys (u 1 c) -> allowed (b h u s c)
Numbers = tuple[Int[Tensor, " p"], Int[Tensor, " p"]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Survey:
    """Blocks of queries q (Q s) and keys k (K c): which are open, and which are mixed for some batch row or head.

    rows, cols   fully open blocks that are not among the unsure; rows are numbered over batch rows, heads and Q
    i, j         pairs of blocks that some batch row or head may see in part, or with too few keys; see `looked`
    like, first  which of the kinds each of them is, and the first pair of each kind
    times        batch rows times heads that are distinguished
    """

    q: Int[Tensor, "Q s"]
    k: Int[Tensor, "K c"]
    rows: Int[Tensor, " F"]
    cols: Int[Tensor, " F"]
    i: Int[Tensor, " P"]
    j: Int[Tensor, " P"]
    like: Int[Tensor, " P"]
    first: Int[Tensor, " U"]
    look: Look
    times: int

    @property
    def step(self) -> int:
        """How many kinds are looked at together."""
        return max(PAIRS // (self.times * self.q.shape[1] * self.k.shape[1]), 1)

    def looked(self) -> Iterator[tuple[Tensor, Bool[Tensor, "b h u s c"]]]:
        """(numbers of pairs, what they let through), kind by kind, a few at a time."""
        for part in self.first.split(self.step):
            yield part, self.look(self.q[self.i[part]][:, :, None], self.k[self.j[part]][:, None])


def survey(
    q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"], keys: int, *, coarse: Coarse, alike: Alike, look: Look, times: int
) -> Survey:
    """The survey of `keys` keys, which may end within the last block; `times`: batch rows times heads."""
    i, j, sure = _descended(q, k, coarse, times)
    judge, short = coarse(q, k), keys % k.shape[1] > 0
    full: list[Numbers] = []
    unsure: list[Numbers] = []
    for at in _parts(len(i), times):
        verdict = _judged(judge, i[at], j[at], sure[at], times)
        border = (verdict.some & ~verdict.every).any(0) | verdict.some.any(0) & (short & (j[at] == len(k) - 1))
        head, pair = (verdict.some & ~border).nonzero(as_tuple=True)
        full.append((head * len(q) + i[at][pair], j[at][pair]))
        unsure.append((i[at][border], j[at][border]))
    (rows, cols), (i, j) = (tuple(map(torch.cat, zip(*parts, strict=True))) for parts in (full, unsure))
    like, first = _kinds(alike(i.cpu(), j.cpu()) * 4 + _ends(i, j, q, k).cpu())
    return Survey(
        q=q, k=k, rows=rows, cols=cols, i=i, j=j, like=like.to(i.device), first=first.to(i.device), look=look,
        times=times,
    )  # fmt: skip


def _ends(i: Tensor, j: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Tells the last blocks, which may be short, from all others."""
    return (i == len(q) - 1) * 2 + (j == len(k) - 1).to(i.dtype)


def _kinds(numbers: Int[Tensor, " P"]) -> tuple[Int[Tensor, " P"], Int[Tensor, " U"]]:
    """Which kind each is, and where each kind comes first."""
    kinds, like = numbers.unique(return_inverse=True)
    places = torch.arange(len(numbers)).flip(0)
    return like, torch.zeros(len(kinds), dtype=torch.int64).scatter_(0, like[places], places)


def _descended(q: Tensor, k: Tensor, coarse: Coarse, times: int) -> tuple[Tensor, Tensor, Tensor]:
    """(i, j, sure): pairs of blocks that may be open, all of those surely open for every batch row and head marked."""
    if len(q) * len(k) <= TOP:
        i, j = (x.flatten() for x in torch.meshgrid(*(torch.arange(len(x)) for x in (q, k)), indexing="ij"))
        return i.to(q.device), j.to(q.device), torch.zeros(len(i), dtype=torch.bool, device=q.device)
    wide_q, wide_k = _folded(q), _folded(k)
    i, j, sure = _descended(wide_q, wide_k, coarse, times)
    judge = coarse(wide_q, wide_k)
    verdicts = [_judged(judge, i[at], j[at], sure[at], times) for at in _parts(len(i), times)]
    keep, every = (torch.cat(flags) for flags in zip(*((v.some.any(0), v.every.all(0)) for v in verdicts), strict=True))
    inside = torch.arange(FOLD, device=q.device)
    i = (i[keep][:, None, None] * FOLD + inside[:, None]).expand(-1, FOLD, FOLD)
    j = (j[keep][:, None, None] * FOLD + inside).expand(-1, FOLD, FOLD)
    there = (i < len(q)) & (j < len(k))
    return i[there], j[there], every[keep][:, None, None].expand_as(there)[there]


def _folded(block: Int[Tensor, "B s"]) -> Int[Tensor, "B4 s4"]:
    short = -len(block) % FOLD
    return torch.cat((block, block[-1:].expand(short, -1))).reshape(-1, FOLD * block.shape[1])


def _judged(judge: Judge, i: Tensor, j: Tensor, sure: Tensor, times: int) -> Verdict:
    """The verdict by batch row and head (times p), asked only where it is not sure."""
    some = torch.ones(times, len(i), dtype=torch.bool, device=i.device)
    every = some.clone()
    asked = (~sure).nonzero()[:, 0]
    verdict = judge(i[asked], j[asked])
    heads = max(verdict.some.shape[1], verdict.every.shape[1])
    for flags, said in ((some, verdict.some), (every, verdict.every)):
        flags[:, asked] = said.expand(times // heads, heads, len(asked)).flatten(0, 1)
    return Verdict(some, every)


def _parts(n: int, times: int) -> Iterator[slice]:
    step = max(JUDGED // times, 1)
    return (slice(at, at + step) for at in range(0, max(n, 1), step))
