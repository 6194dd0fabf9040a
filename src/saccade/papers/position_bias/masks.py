"""Masks as graphs: which tokens a token may attend to, and from which every token is reached.

Tokens are counted from 0. All have an edge to themselves.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from saccade.core.checks import check_whole


@dataclass(frozen=True, kw_only=True)
class Causal:
    """Every token sees itself and all before it."""

    def allowed(self, n: int) -> Bool[Tensor, "{n} {n}"]:
        """True where row i may attend to column j."""
        return torch.ones(n, n, dtype=torch.bool).tril()

    def centres(self, n: int) -> tuple[int, ...]:
        """Tokens from which all are reached in some number of layers."""
        return (0,)


@dataclass(frozen=True, kw_only=True)
class Window:
    """Every token sees the last `width`, itself counted.

    Raises ValueError for a width below 1.
    """

    width: int = 20

    def __post_init__(self) -> None:
        check_whole(1, width=self.width)

    def allowed(self, n: int) -> Bool[Tensor, "{n} {n}"]:
        """True where row i may attend to column j."""
        return torch.ones(n, n, dtype=torch.bool).tril().triu(1 - self.width)

    def centres(self, n: int) -> tuple[int, ...]:
        """Tokens from which all are reached; none but in a text of one token where each sees itself alone."""
        return (0,) if self.width > 1 or n == 1 else ()


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Causal, and the first `length` tokens all see one another.

    Raises ValueError for a length below 1, and for one above n where it is used.
    """

    length: int = 1

    def __post_init__(self) -> None:
        check_whole(1, length=self.length)

    def allowed(self, n: int) -> Bool[Tensor, "{n} {n}"]:
        """True where row i may attend to column j."""
        self.check(n)
        found = torch.ones(n, n, dtype=torch.bool).tril()
        found[: self.length, : self.length] = True
        return found

    def centres(self, n: int) -> tuple[int, ...]:
        """Tokens from which all are reached."""
        self.check(n)
        return tuple(range(self.length))

    def check(self, n: int) -> None:
        """Raise ValueError where the prefix is longer than the text."""
        if self.length > n:
            raise ValueError(f"length={self.length} of the prefix is above the {n} tokens there are; give at most {n}")


@dataclass(frozen=True, kw_only=True)
class Full:
    """Every token sees all."""

    def allowed(self, n: int) -> Bool[Tensor, "{n} {n}"]:
        """True where row i may attend to column j."""
        return torch.ones(n, n, dtype=torch.bool)

    def centres(self, n: int) -> tuple[int, ...]:
        """Tokens from which all are reached."""
        return tuple(range(n))


Graph = Causal | Window | Prefix | Full
CAUSAL = Causal()
