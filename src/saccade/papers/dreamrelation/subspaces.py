"""How alike the subspaces of weight matrices are: why the relation's terms stand at queries and keys (its analysis).

s(A, B) = |U_A^T U_B|_F^2 / r,   U the first r left singular vectors;   1 for equal spans, about r / d for random ones
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.papers.dreamrelation.lora import RANK, attention_sites

LETTERS = ("q", "k", "v")


@dataclass(frozen=True, kw_only=True)
class PairSimilarity:
    """Of one site: a pair such as "q-k", its similarity, and r / d, what random matrices have."""

    site: str
    layer: int
    pair: str
    similarity: float
    random: float


def subspace_similarity(a: Float[Tensor, "d i"], b: Float[Tensor, "d j"], rank: int = RANK) -> float:
    """Of two weight matrices with as many outputs, in [0, 1]; symmetric. Singular vectors are found in float64.

    Raises ValueError for a rank that is no number of singular vectors of both, and for other heights.
    """
    if a.shape[0] != b.shape[0]:
        raise ValueError(f"matrices of {a.shape[0]} and {b.shape[0]} outputs have no subspaces in common")
    check_width(rank, a, b)
    return overlap(leading(a, rank), leading(b, rank))


def leading(matrix: Float[Tensor, "d i"], rank: int) -> Float[Tensor, "d {rank}"]:
    """The first left singular vectors, in float64."""
    return torch.linalg.svd(matrix.detach().double(), full_matrices=False).U[:, :rank]


def overlap(a: Float[Tensor, "d r"], b: Float[Tensor, "d r"]) -> float:
    """The mean squared cosine between two spans of orthonormal columns, in [0, 1]."""
    return min(1.0, float((a.mT @ b).square().sum() / a.shape[1]))


@torch.no_grad()
def attention_subspaces(model: nn.Module, rank: int = RANK) -> Iterator[PairSimilarity]:
    """Q-K, Q-V and K-V of every joint and self-attention site of a transformer.

    Raises ValueError for a model no family knows, and for a rank above its width.
    """
    for site in attention_sites(model):
        module: Any = model.get_submodule(site.name)
        weights = {letter: getattr(module, f"to_{letter}").weight for letter in LETTERS}
        check_width(rank, *weights.values())
        bases = {letter: leading(weight, rank) for letter, weight in weights.items()}
        for a, b in combinations(LETTERS, 2):
            yield PairSimilarity(
                site=site.name, layer=site.layer, pair=f"{a}-{b}", similarity=overlap(bases[a], bases[b]),
                random=rank / len(weights[a]),
            )  # fmt: skip


def check_width(rank: int, *weights: Tensor) -> None:
    """Raise ValueError for a rank that is no number of singular vectors of all."""
    most = min(side for weight in weights for side in weight.shape)
    if not 1 <= rank <= most:
        raise ValueError(f"rank={rank} must be 1 to {most}, the smallest side of the matrices")
