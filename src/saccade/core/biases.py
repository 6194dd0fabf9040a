"""Biases added to the scores: values for pairs of base tokens, zero on keys appended later (which always come last).

LowRank   phi_q phi_k^T, r columns; kernels fold it into q and k, no n x m tensor
PerKey    one value per key
Dense     all values; the flagged fall-back
BiasSum   the sum of several
A `BiasRule` makes a bias from layouts, between steps.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.shapes import broadcast_shape


class Bias:
    """Base: `materialize(n, m)` gives the values; `+` adds."""

    def materialize(self, n: int, m: int) -> Float[Tensor, "b h n m"]:
        """All values, zero on appended keys; for tests and dense fall-backs."""
        raise NotImplementedError

    def of_rows(self, rows: Int[Tensor, " b"]) -> "Bias":
        """The bias of a batch whose row i is row `rows[i]` of this one's."""
        raise NotImplementedError

    def __add__(self, other: "Bias") -> "Bias":
        if isinstance(self, LowRank) and isinstance(other, LowRank):
            return self.concatenated(other)
        return BiasSum(_terms(self) + _terms(other))


@dataclass(frozen=True, eq=False)
class LowRank(Bias):
    """bias[i, j] = sum_r phi_q[i, r] phi_k[j, r]; batch and heads broadcast.

    Raises ValueError for options out of range.
    """

    phi_q: Float[Tensor, "#b #h n r"]
    phi_k: Float[Tensor, "#b #h m r"]

    def __post_init__(self) -> None:
        if self.phi_q.shape[-1] != self.phi_k.shape[-1]:
            raise ValueError(
                f"phi_q has {self.phi_q.shape[-1]} columns and phi_k {self.phi_k.shape[-1]}; "
                "they must have as many (the rank)"
            )
        try:
            broadcast_shape(self.phi_q.shape[:2], self.phi_k.shape[:2])
        except RuntimeError:
            raise ValueError(
                f"phi_q {tuple(self.phi_q.shape)} and phi_k {tuple(self.phi_k.shape)} "
                "must broadcast in their first two dimensions (b h)"
            ) from None

    @property
    def rank(self) -> int:
        """Number of columns r."""
        return self.phi_q.shape[-1]

    def materialize(self, n: int, m: int) -> Float[Tensor, "b h n m"]:
        return _grow(self.phi_q @ self.phi_k.transpose(-1, -2), n, m)

    def of_rows(self, rows: Int[Tensor, " b"]) -> "LowRank":
        return LowRank(_rows(self.phi_q, rows), _rows(self.phi_k, rows))

    def concatenated(self, other: "LowRank") -> "LowRank":
        """The sum, as one pair of factors."""
        columns = [_beside(a, b) for a, b in ((self.phi_q, other.phi_q), (self.phi_k, other.phi_k))]
        return LowRank(*columns)


@dataclass(frozen=True, eq=False)
class PerKey(Bias):
    """bias[i, j] = values[j]."""

    values: Float[Tensor, "#b #h m"]

    def materialize(self, n: int, m: int) -> Float[Tensor, "b h n m"]:
        b, h, base = self.values.shape
        return _grow(self.values[:, :, None, :].expand(b, h, n, base), n, m)

    def of_rows(self, rows: Int[Tensor, " b"]) -> "PerKey":
        return PerKey(_rows(self.values, rows))


@dataclass(frozen=True, eq=False)
class DenseBias(Bias):
    """All values at once: n x m memory."""

    values: Float[Tensor, "#b #h n m"]

    def materialize(self, n: int, m: int) -> Float[Tensor, "b h n m"]:
        return _grow(self.values, n, m)

    def of_rows(self, rows: Int[Tensor, " b"]) -> "DenseBias":
        return DenseBias(_rows(self.values, rows))


@dataclass(frozen=True, eq=False)
class BiasSum(Bias):
    """The sum of terms of different kinds."""

    terms: tuple[Bias, ...]

    def materialize(self, n: int, m: int) -> Float[Tensor, "b h n m"]:
        first, *others = (t.materialize(n, m) for t in self.terms)
        return sum(others, start=first)

    def of_rows(self, rows: Int[Tensor, " b"]) -> "BiasSum":
        return BiasSum(tuple(term.of_rows(rows) for term in self.terms))


class BiasRule:
    """What a system plans when it wants a bias; bound once per layout, outside graphs."""

    def bind(
        self, layout_q: Layout, layout_k: Layout, heads: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Bias:
        """The bias for these tokens and this many heads, in `dtype`: float32, or float64 where the host computes so."""
        raise NotImplementedError


def _terms(bias: Bias) -> tuple[Bias, ...]:
    return bias.terms if isinstance(bias, BiasSum) else (bias,)


def _rows(x: Tensor, rows: Int[Tensor, " b"]) -> Tensor:
    return x if len(x) == 1 else x.index_select(0, rows.to(x.device))


def _beside(a: Tensor, b: Tensor) -> Tensor:
    shape = broadcast_shape(a.shape[:2], b.shape[:2])
    return torch.cat((a.expand(*shape, *a.shape[2:]), b.expand(*shape, *b.shape[2:])), dim=-1)


def _grow(values: Tensor, n: int, m: int) -> Tensor:
    if values.shape[2] != n or values.shape[3] > m:
        raise ValueError(
            f"a bias over {tuple(values.shape[2:])} pairs does not fit a call of {n} x {m}; build it for this layout"
        )
    short = m - values.shape[3]
    return torch.nn.functional.pad(values, (0, short)) if short else values
