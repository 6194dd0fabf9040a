"""A learned bias table as a prior: factored once by SVD, or kept dense where its rank is too high, with the reason."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import Bias, DenseBias
from saccade.ops.svd_factors import Factors, Means, check_table, svd_factors
from saccade.papers.flashbias.priors import Prior, PriorTokens


@dataclass(frozen=True, kw_only=True, eq=False)
class BiasTable(Prior):
    """values (n m) or (h n m) between the chosen tokens, in their order.

    energy    share of each head's squared norm to keep, row means apart
    max_rank  columns allowed; None lets energy decide alone
    means     "keep" carries row means exactly in one more column; "drop" is for softmax over these keys only; "mix"
              leaves them in the table, the published rule, which reads the energy of an all-positive table too kindly
    beyond    what happens to a table that needs more than max_rank: stay "dense", or be "cut" to max_rank
    Raises ValueError for options out of range.
    """

    values: Float[Tensor, "*h n m"]
    energy: float = 0.995
    max_rank: int | None = 16
    means: Means = "keep"
    beyond: Literal["dense", "cut"] = "dense"

    def __post_init__(self) -> None:
        check_table(self.values, self.energy, self.max_rank, self.means)
        if self.beyond not in ("dense", "cut"):
            raise ValueError(f"beyond='{self.beyond}' must be 'dense' or 'cut'")

    @property
    def only_up_to_rows(self) -> bool:
        return self.means == "drop"

    @classmethod
    def relative(cls, values: Float[Tensor, "h dy dx"], grid: tuple[int, int], **options: Any) -> "BiasTable":
        """From a table by offset, as Swin and BEiT learn it: entry (dy + Y - 1, dx + X - 1) for query minus key."""
        return cls(values=by_offset(values, grid), **options)

    @cached_property
    def factors(self) -> Factors:
        """The factors, made when first asked for."""
        with warnings.catch_warnings():
            if self.beyond == "dense":
                warnings.simplefilter("ignore")  # `bias` reports it, with what it does about it
            return svd_factors(self.values, energy=self.energy, max_rank=self.max_rank, means=self.means)

    def bias(self, q: PriorTokens, k: PriorTokens, heads: int) -> Bias:
        """The table as a bias; raises ValueError for values of other tokens or heads."""
        tokens, table = (len(q.order), len(k.order)), tuple(self.values.shape[-2:])
        if tokens != table:
            raise ValueError(f"values {tuple(self.values.shape)} do not fit {tokens[0]} x {tokens[1]} chosen tokens")
        if self.beyond == "dense" and self.factors.missing:
            warnings.warn(
                f"the table is kept dense: {too_wide(self.factors, self.energy, self.max_rank)}", stacklevel=2
            )
            return DenseBias(self.values.detach().cpu()[(None,) * (4 - self.values.ndim)])
        return self.factors.bias


def by_offset(values: Float[Tensor, "h dy dx"], grid: tuple[int, int]) -> Float[Tensor, "h n n"]:
    """values[h, y_i - y_j + Y - 1, x_i - x_j + X - 1] between the tokens of a grid (Y X), in raster order.

    Raises ValueError for a table of another shape.
    """
    rows, columns = grid
    if values.shape[1:] != (2 * rows - 1, 2 * columns - 1):
        raise ValueError(
            f"values {tuple(values.shape)} must be (heads, {2 * rows - 1}, {2 * columns - 1}) for grid={grid}"
        )
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    dy, dx = (places[:, None] - places).unbind(-1)
    return values[:, dy + rows - 1, dx + columns - 1]


def too_wide(factors: Factors, energy: float, max_rank: int | None) -> str:
    """Why a bias stays dense."""
    worst = min(factors.missing, key=lambda head: factors.energies[head])
    return (
        f"heads {list(factors.missing)} need more than max_rank={max_rank} columns for energy={energy} "
        f"(head {worst} would keep {factors.energies[worst]:.4f})"
    )
