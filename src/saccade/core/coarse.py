"""Verdicts on whole blocks of pairs, from what is known of their tokens: surely none, surely all, or not known.

A mask's coarse rule is given blocks of queries (Q s) and of keys (K c) and answers for any pairs of them, so that only
the blocks on its border are ever looked at pair by pair. A verdict may be too careful, never wrong; `&`, `|` and `~`
keep it so.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Verdict:
    """For each block: whether the predicate may hold for `some` pair, and whether it surely holds for `every` pair."""

    some: Bool[Tensor, "#b #h *#p"]
    every: Bool[Tensor, "#b #h *#p"]

    def __and__(self, other: "Verdict") -> "Verdict":
        return Verdict(self.some & other.some, self.every & other.every)

    def __or__(self, other: "Verdict") -> "Verdict":
        return Verdict(self.some | other.some, self.every | other.every)

    def __invert__(self) -> "Verdict":
        return Verdict(~self.every, ~self.some)


@dataclass(frozen=True, eq=False)
class Judge:
    """Calling it with numbers i of query blocks and j of key blocks, which broadcast to (*p), gives their verdict."""

    verdict: Callable[[Tensor, Tensor], Verdict]

    def __call__(self, i: Int[Tensor, "*#p"], j: Int[Tensor, "*#p"]) -> Verdict:
        ndim = max(i.ndim, j.ndim)
        return self.verdict(*(x.reshape((1,) * (ndim - x.ndim) + x.shape) for x in (i, j)))

    def __and__(self, other: "Judge") -> "Judge":
        return Judge(lambda i, j: self(i, j) & other(i, j))

    def __or__(self, other: "Judge") -> "Judge":
        return Judge(lambda i, j: self(i, j) | other(i, j))

    def __invert__(self) -> "Judge":
        return Judge(lambda i, j: ~self(i, j))


Coarse = Callable[[Tensor, Tensor], Judge]  # of query blocks (Q s) and key blocks (K c)


def unknown(q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"]) -> Judge:
    """Nothing is known: every block is looked at."""
    return Judge(lambda i, j: Verdict(_yes(i, j), ~_yes(i, j)))


def always(q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"]) -> Judge:
    """True of every pair."""
    return Judge(lambda i, j: Verdict(_yes(i, j), _yes(i, j)))


def both(in_q: Bool[Tensor, "*b n"], in_k: Bool[Tensor, "*c m"]) -> Coarse:
    """Pairs whose query has one flag and whose key the other, each (n) or by batch row (b n)."""

    def judge(q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"]) -> Judge:
        of_q, of_k = _rows(in_q)[:, q], _rows(in_k)[:, k]  # (b|1 Q s), (b|1 K c)
        any_q, all_q, any_k, all_k = of_q.any(-1), of_q.all(-1), of_k.any(-1), of_k.all(-1)
        return Judge(lambda i, j: Verdict((any_q[:, i] & any_k[:, j])[:, None], (all_q[:, i] & all_k[:, j])[:, None]))

    return judge


def blocks(order: Int[Tensor, " n"], size: int) -> Int[Tensor, "B {size}"]:
    """Token numbers by block; a short last block repeats its last token, which changes no verdict."""
    short = (-len(order)) % size
    return torch.cat((order, order[-1:].expand(short))).reshape((len(order) + short) // size, size)


def _yes(i: Tensor, j: Tensor) -> Bool[Tensor, "1 1 *p"]:
    return torch.ones(1, 1, *[1] * i.ndim, dtype=torch.bool, device=i.device)


def _rows(flags: Bool[Tensor, "*b n"]) -> Bool[Tensor, "b n"]:
    return flags.reshape(-1, flags.shape[-1])
