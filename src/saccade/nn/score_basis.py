"""Along what a perturbation moves: freely, along differences between words' scores, or towards neighbouring words.

A basis maps coordinates a to a perturbation, r = D a, and gradients back, D^T g; the worst step of length eps in its
coordinates is r = eps D (D^T g / |D^T g|).

    d_t = (s_t - s_k)_k               differences of a score to all of its row
    D_t = d_t / |d_t|                 "word": every word alike, so that nothing of d_t is left and r is the free one
    D_t = d_t / sqrt(mean_s |d_s|^2)  "sentence": words whose scores differ most move most
    D_t = (s_it - s_jt)_j, unit       "batch": the same position of other rows; nothing of it is left either

Coordinates of a word are its k numbers a_tk; only their part along D_t moves anything, and it is what is kept:
r_t = |D_t| b_t. So no t x t tensor is formed.
"""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

BasisName = Literal["free", "word", "sentence", "batch", "nearest"]
BASES: tuple[BasisName, ...] = get_args(BasisName)


class Basis(Protocol):
    """Coordinates of perturbations; `moves`: which of them move anything, in their shape."""

    @property
    def moves(self) -> Tensor: ...

    def push(self, a: Tensor) -> Tensor:
        """r = D a."""
        ...

    def pull(self, g: Tensor) -> Tensor:
        """D^T g."""
        ...


@dataclass(frozen=True, eq=False)
class Scaled:
    """r = s a: free where s is 1, and 0 at what is not there."""

    lengths: Float[Tensor, "b ..."]

    @property
    def moves(self) -> Bool[Tensor, "b ..."]:
        return self.lengths > 0

    def push(self, a: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return a * self.lengths

    def pull(self, g: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        return g * self.lengths


@dataclass(frozen=True, eq=False)
class Towards:
    """r_t = sum_k a_tk D_tk, of unit vectors."""

    directions: Float[Tensor, "b t k e"]

    @property
    def moves(self) -> Bool[Tensor, "b t k"]:
        return (self.directions != 0).any(-1)

    def push(self, a: Float[Tensor, "b t k"]) -> Float[Tensor, "b t e"]:
        return torch.einsum("btk,btke->bte", a, self.directions)

    def pull(self, g: Float[Tensor, "b t e"]) -> Float[Tensor, "b t k"]:
        return torch.einsum("bte,btke->btk", g, self.directions)


def free(values: Float[Tensor, "b ..."], keep: Bool[Tensor, "b ..."]) -> Scaled:
    """Everything that is there may move."""
    return Scaled(keep.to(values.dtype))


def differences(
    scores: Float[Tensor, "b *r t"], keep: Bool[Tensor, "b *r t"], name: Literal["word", "sentence", "batch"]
) -> Scaled:
    """|D_t| of every word's score, 0 where it differs from none."""
    squares = squared_differences(scores, keep, across=0 if name == "batch" else -1)
    if name == "sentence":
        count = keep.sum(-1, keepdim=True).clamp(min=1)
        mean = squares.sum(-1, keepdim=True) / count
        return Scaled((squares / torch.where(mean > 0, mean, 1)).sqrt())
    return Scaled((squares > 0).to(scores.dtype))


def squared_differences(
    scores: Float[Tensor, "b *r t"], keep: Bool[Tensor, "b *r t"], across: int = -1
) -> Float[Tensor, "b *r t"]:
    """|d|^2 = sum_k (s - s_k)^2 along an axis, over what is there; exactly 0 where all are alike."""
    real = scores.detach().masked_fill(~keep, 0)
    n = keep.sum(across, keepdim=True)
    centred = (real - real.sum(across, keepdim=True) / n.clamp(min=1)).masked_fill(~keep, 0)
    squares = n * centred.square() + centred.square().sum(across, keepdim=True)
    low = scores.masked_fill(~keep, torch.inf).amin(across, keepdim=True)
    high = scores.masked_fill(~keep, -torch.inf).amax(across, keepdim=True)
    return squares.masked_fill(~keep | (low >= high), 0)


def nearest_words(
    embedded: Float[Tensor, "b t e"], keep: Bool[Tensor, "b t e"], words: Float[Tensor, "w e"], count: int
) -> Towards:
    """Unit vectors from every word to the `count` words of the table whose embeddings are nearest; row 0 is padding.

    Raises ValueError where the table holds not so many others.
    """
    own, table = embedded.detach(), words.detach()[1:]
    if not 1 <= count < len(table):
        raise ValueError(f"neighbours={count} must be at least 1 and fewer than the {len(table)} words of the table")
    far = torch.cdist(own.flatten(0, 1), table, compute_mode="donot_use_mm_for_euclid_dist")
    far = far.masked_fill(far == 0, torch.inf)  # the word itself
    near = table[far.topk(count, largest=False).indices].unflatten(0, own.shape[:2])
    directions = F.normalize(near - own[:, :, None], dim=-1, eps=1e-12)
    return Towards(directions * keep[..., :1, None])
