"""Logits by pointing: each query scores the items of another sequence, as many as there are, and one more for none.

    score_h(t, i) = (W_q x_t + b_q) . (W_k y_i + b_k) / sqrt(d),   0 for none;   logits = sum_h a_h score_h + b

Sources: Vinyals et al., "Pointer networks" (2015); several heads and their readout after OAT (2024).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Pointing(nn.Module):
    """One head: projected dot products."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b t d"], items: Float[Tensor, "b n d"]) -> Float[Tensor, "b t n"]:
        return self.query(x) @ self.key(items).mT


class PointerHead(nn.Module):
    """Logits over n items and none of them; the logit of none is the readout's bias, 0 with one head.

    heads       their scores are weighed by a linear layer, where there are several
    scale_width   scores are divided by its root; None: `width`
    Raises ValueError for a head count or scale below 1.
    """

    def __init__(self, width: int, *, heads: int = 2, scale_width: int | None = None) -> None:
        super().__init__()
        if heads < 1 or (scale_width or width) < 1:
            raise ValueError(f"heads={heads} and scale_width={scale_width} must be at least 1")
        self.scale = (scale_width or width) ** -0.5
        self.heads = nn.ModuleList(Pointing(width) for _ in range(heads))
        self.readout = nn.Linear(heads, 1) if heads > 1 else None

    def scores(self, x: Float[Tensor, "b t d"], items: Float[Tensor, "b n d"]) -> Float[Tensor, "b t m h"]:
        """Of each head, m = n + 1; the last column, none, is 0."""
        found = torch.stack([head(x, items) for head in self.heads], dim=-1) * self.scale
        return torch.cat((found, torch.zeros_like(found[:, :, :1])), dim=2)

    def forward(
        self, x: Float[Tensor, "b t d"], items: Float[Tensor, "b n d"], keep: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b t m"]:
        """Logits; those of items that are not there, by `keep`, are minus infinity."""
        found = self.scores(x, items)
        logits = found.squeeze(-1) if self.readout is None else self.readout(found).squeeze(-1)
        if keep is None:
            return logits
        there = torch.cat((keep, torch.ones_like(keep[:, :1])), dim=1)
        return logits.masked_fill(~there[:, None], -torch.inf)
