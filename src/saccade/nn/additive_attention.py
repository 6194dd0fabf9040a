"""Attention of one learned, or one given, query over a sequence of states: a vector of weights for each sentence.

    additive   s_t = v . tanh(W h_t + b)               with a query  v . tanh(W h_t + U q)
    dot        s_t = w . h_t / sqrt(width)
    a = softmax(s) over words that are there,          context = sum_t a_t h_t

After Bahdanau et al., "Neural machine translation by jointly learning to align and translate" (2015).
"""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class AdditiveAttention(nn.Module):
    """Scores of states (b t d), before the softmax and any mask; `query` (b e) where `query_width` was given.

    `names`, `query_names`: of its weights in the code of "Attention Meets Perturbations".
    """

    names: ClassVar = (("inner.", "attn.0."), ("score.", "attn.2."))
    query_names: ClassVar = (("inner.", "attn1p."), ("query.", "attn1q."), ("score.", "attn2."))

    def __init__(self, width: int, inner: int, query_width: int | None = None) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner)
        self.query = None if query_width is None else nn.Linear(query_width, inner)
        self.score = nn.Linear(inner, 1, bias=False)

    def forward(self, x: Float[Tensor, "b t d"], query: Float[Tensor, "b e"] | None = None) -> Float[Tensor, "b t"]:
        """Raises ValueError for a query that is missing, or that there is no weight for."""
        if (query is None) != (self.query is None):
            raise ValueError(
                f"query {'is missing' if query is None else 'was given'}; query_width says whether there is one"
            )
        inner = self.inner(x) if self.query is None else self.inner(x) + self.query(query)[:, None]
        return self.score(inner.tanh()).squeeze(-1)


class DotAttention(nn.Module):
    """The same by one vector, which has no bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t"]:
        return self.score(x).squeeze(-1) * x.shape[-1] ** -0.5


def masked_softmax(scores: Float[Tensor, "*b t"], keep: Bool[Tensor, "*b t"]) -> Float[Tensor, "*b t"]:
    """Softmax over what is there, 0 elsewhere."""
    weights = scores.masked_fill(~keep, -torch.inf).softmax(-1)
    return weights.masked_fill(~keep, 0)


def pooled(weights: Float[Tensor, "b t"], x: Float[Tensor, "b t d"]) -> Float[Tensor, "b d"]:
    """sum_t a_t h_t."""
    return torch.einsum("bt,btd->bd", weights, x)
