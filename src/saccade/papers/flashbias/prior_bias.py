"""Lay a prior on the tokens it is meant for: factors for them, zero factors for all others."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.biases import Bias, BiasRule, BiasSum, DenseBias, LowRank
from saccade.core.labels import member
from saccade.core.layout import Layout
from saccade.ops.rounding import rounding_error, split
from saccade.papers.flashbias.priors import Prior, PriorTokens

EVERY = "*"
TOLERATED = 0.01  # rounding in bfloat16, in units of the scores, above which columns are split


@dataclass(frozen=True, kw_only=True)
class PriorBias(BiasRule):
    """A prior between the tokens of one segment kind or name ("*": all), on some heads (None: all).

    Text and appended keys get a bias of exactly zero. With `split_columns`, columns that bfloat16 would round visibly
    are split in two, since the rule cannot know in which dtype the host runs; padding hides the few more columns.
    """

    prior: Prior
    tokens: str = "image"
    heads: tuple[int, ...] | None = None
    split_columns: bool = True

    def bind(
        self, layout_q: Layout, layout_k: Layout, heads: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Bias:
        """The bias of these tokens; raises ValueError for a prior that some of them would see shifted."""
        q, k = (prior_tokens(layout, self.tokens) for layout in (layout_q, layout_k))
        if self.prior.only_up_to_rows and not bool(k.chosen.all()):
            raise ValueError(
                f"{self.prior} is exact only up to a constant per query, which tokens='{self.tokens}' of "
                f"{layout_k.describe()} do not share with the other keys; use the form that keeps row constants"
            )
        return self._lay(self.prior.bias(q, k, heads), q, k, heads, lambda x: x.to(device, dtype))

    def _lay(self, bias: Bias, q: PriorTokens, k: PriorTokens, heads: int, send: Callable[[Tensor], Tensor]) -> Bias:
        match bias:
            case LowRank():
                narrow = self.split_columns and rounding_error(bias, torch.bfloat16) > TOLERATED
                fine = split(bias) if narrow else bias
                phi_q = _spread(fine.phi_q * self._gate(heads), q.chosen, dim=2)
                return LowRank(send(phi_q), send(_spread(fine.phi_k, k.chosen, dim=2)))
            case DenseBias():
                rows = _spread(bias.values * self._gate(heads), q.chosen, dim=2)
                return DenseBias(send(_spread(rows, k.chosen, dim=3)))
            case BiasSum():
                first, *others = (self._lay(term, q, k, heads, send) for term in bias.terms)
                return sum(others, start=first)
            case _:
                raise ValueError(
                    f"a {type(bias).__name__} of {self.prior} cannot be laid out; return LowRank or DenseBias"
                )

    def _gate(self, heads: int) -> Float[Tensor, "1 #h 1 1"]:
        """1 for heads with the bias, 0 for the others."""
        if self.heads is None:
            return torch.ones(1, 1, 1, 1)
        if bad := [h for h in self.heads if not 0 <= h < heads]:
            raise ValueError(f"heads={bad} must lie in 0..{heads - 1} at this site")
        return torch.tensor([float(h in self.heads) for h in range(heads)])[None, :, None, None]


def prior_tokens(layout: Layout, tokens: str = EVERY) -> PriorTokens:
    """The tokens of one segment kind or name, "*" for all.

    Raises ValueError where nothing is selected.
    """
    chosen = member(layout, tokens)
    if tokens == EVERY:
        chosen = torch.ones_like(chosen)
    if not bool(chosen.any()):
        raise ValueError(
            f"tokens='{tokens}' selects nothing in {layout.describe()}; name a segment kind, a segment, or '*'"
        )
    return PriorTokens(layout, chosen)


def _spread(x: Tensor, chosen: Bool[Tensor, " n"], dim: int) -> Tensor:
    """x over the chosen tokens -> x over all tokens, zero elsewhere."""
    shape = (*x.shape[:dim], len(chosen), *x.shape[dim + 1 :])
    return x.new_zeros(shape).index_copy(dim, chosen.nonzero().flatten(), x)
