"""Relative position bias by Euclidean distance: a table for each head, far distances in wider and wider buckets.

    rho = round(|p_i - p_j|)          bucket = 40 + f(rho)
    f(rho) = rho up to 20, then min(40, round(20 + 20 ln(rho / 20) / ln(160 / 20)))

Distances have no sign, so of the 81 buckets the first 40 are never read.
Source: Wu et al., iRPE (2021), in the setting of Huang et al., PATNet (2025).
"""

from functools import lru_cache
from math import log

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

NEAR, FAR, FARTHEST = 20, 40, 160  # exact up to NEAR; bucket FAR holds FARTHEST and beyond
BUCKETS = 2 * FAR + 1


class RelativeBias(nn.Module):
    """A number to add to the logits of each head for each distance; zero at first."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(heads, BUCKETS))

    def forward(self, h: int, w: int) -> Float[Tensor, "1 heads n n"]:
        """For the n = h w tokens of a grid, row-major."""
        return self.table[:, buckets(h, w, self.table.device)][None]


@lru_cache(maxsize=16)
def buckets(h: int, w: int, device: torch.device) -> Int[Tensor, "n n"]:
    """The bucket of every pair of tokens."""
    rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    places = torch.stack((rows.flatten(), columns.flatten()), dim=-1)
    squares = (places[:, None] - places).square().sum(-1)
    return (FAR + bucket(squares.double().sqrt().round())).to(device)


def bucket(distance: Float[Tensor, "*n"]) -> Int[Tensor, "*n"]:
    """f of rounded distances, 0 to FAR."""
    beyond = (distance / NEAR).clamp(min=1).log() / log(FARTHEST / NEAR)
    far = (NEAR + (FAR - NEAR) * beyond).round().clamp(max=FAR)
    return torch.where(distance <= NEAR, distance, far).long()
