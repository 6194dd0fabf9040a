"""What a bias says about places, as a value: `a + b` adds two priors, `a * b` multiplies them pair by pair.

A prior sees the tokens it is asked about, not a layout; `PriorBias` (prior_bias.py) lays it on a layout's tokens.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.biases import Bias, LowRank
from saccade.core.labels import member
from saccade.core.layout import Layout
from saccade.ops.exact_factors import product


@dataclass(frozen=True, eq=False)
class PriorTokens:
    """The tokens of a layout that a prior speaks about."""

    layout: Layout
    chosen: Bool[Tensor, " n"]

    @property
    def order(self) -> Float[Tensor, " s"]:
        """0, 1, 2, ... among the chosen tokens."""
        return torch.arange(int(self.chosen.sum()), dtype=torch.float64)

    @property
    def place(self) -> Float[Tensor, "s 3"]:
        """(t, y, x) on the grid; an error where a token has none.

        Raises ValueError for tokens without a grid.
        """
        place = self.layout.coords()[self.chosen].double()
        if (place < 0).any():
            raise ValueError(
                f"a prior on the grid meets tokens without one ({self.layout.describe()}); choose tokens='image'"
            )
        return place

    def of(self, name: str) -> Bool[Tensor, " s"]:
        """Which of the chosen tokens are of a segment kind or name."""
        return member(self.layout, name)[self.chosen]


class Prior:
    """Base: `bias(q, k, heads)` over chosen queries and keys, in float64. Subclasses are frozen dataclasses."""

    @property
    def neutral(self) -> bool:
        """Whether it adds nothing."""
        return False

    @property
    def only_up_to_rows(self) -> bool:
        """Whether a constant per query was dropped, so that softmax must see no key but these."""
        return False

    def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> Bias:
        """The bias between these queries and keys."""
        raise NotImplementedError

    def __add__(self, other: "Prior") -> "Prior":
        return Added(self, other)

    def __mul__(self, other: "Prior") -> "Prior":
        return Multiplied(self, other)


@dataclass(frozen=True)
class Added(Prior):
    """Two priors, added."""

    a: Prior
    b: Prior

    @property
    def neutral(self) -> bool:
        return self.a.neutral and self.b.neutral

    @property
    def only_up_to_rows(self) -> bool:
        return self.a.only_up_to_rows or self.b.only_up_to_rows

    def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> Bias:
        return self.a.bias(q, k, heads) + self.b.bias(q, k, heads)


@dataclass(frozen=True)
class Multiplied(Prior):
    """Two priors, multiplied pair by pair; both must be exact and complete.

    Raises ValueError for options out of range.
    """

    a: Prior
    b: Prior

    def __post_init__(self) -> None:
        if self.a.only_up_to_rows or self.b.only_up_to_rows:
            raise ValueError(
                f"{self.a} * {self.b}: a row constant cannot be dropped before multiplying; use another form"
            )

    @property
    def neutral(self) -> bool:
        return self.a.neutral or self.b.neutral

    def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> LowRank:
        """The product of two biases; raises ValueError for a dense factor."""
        a, b = (prior.bias(q, k, heads) for prior in (self.a, self.b))
        if not isinstance(a, LowRank) or not isinstance(b, LowRank):
            raise ValueError("a dense bias cannot be multiplied by factors; raise max_rank so that the table factors")
        return product(a, b)
