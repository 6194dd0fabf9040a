"""Verdicts on whole blocks of pairs, from what is known of their tokens: surely none, surely all, or not known.

A mask's coarse rule answers for blocks of queries (Q s) and keys (K s) at once, so that only the blocks on its border
are ever looked at pair by pair. A verdict may be too careful, never wrong; `&`, `|` and `~` keep it so.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

Coarse = Callable[[Tensor, Tensor], "Verdict"]  # (query blocks (Q s), key blocks (K s))


@dataclass(frozen=True, eq=False)
class Verdict:
    """For each block: whether the predicate may hold for `some` pair, and whether it surely holds for `every` pair."""

    some: Bool[Tensor, "#b #h #Q #K"]
    every: Bool[Tensor, "#b #h #Q #K"]

    def __and__(self, other: "Verdict") -> "Verdict":
        return Verdict(self.some & other.some, self.every & other.every)

    def __or__(self, other: "Verdict") -> "Verdict":
        return Verdict(self.some | other.some, self.every | other.every)

    def __invert__(self) -> "Verdict":
        return Verdict(~self.every, ~self.some)


def unknown(q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"]) -> Verdict:
    """Nothing is known: every block is looked at."""
    yes = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=q.device)
    return Verdict(yes, ~yes)


def always(q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"]) -> Verdict:
    """True of every pair."""
    yes = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=q.device)
    return Verdict(yes, yes)


def both(in_q: Bool[Tensor, "*b n"], in_k: Bool[Tensor, "*c m"]) -> Coarse:
    """Pairs whose query has one flag and whose key the other, each (n) or by batch row (b n)."""

    def verdict(q: Int[Tensor, "Q s"], k: Int[Tensor, "K c"]) -> Verdict:
        of_q, of_k = in_q[..., q], in_k[..., k]  # (b? Q s), (b? K c)
        return Verdict(
            _cross(of_q.any(-1)).mT & _cross(of_k.any(-1)),
            _cross(of_q.all(-1)).mT & _cross(of_k.all(-1)),
        )

    return verdict


def _cross(flags: Bool[Tensor, "*b K"]) -> Bool[Tensor, "b 1 1 K"]:
    return flags.reshape(-1, 1, 1, flags.shape[-1])


def blocks(order: Int[Tensor, " n"], size: int) -> Int[Tensor, "B {size}"]:
    """Token numbers by block; a short last block repeats its last token, which changes no verdict."""
    short = (-len(order)) % size
    return torch.cat((order, order[-1:].expand(short))).reshape((len(order) + short) // size, size)
