"""The worst small change of what a classifier read, to first order: r = eps g / |g|, g the gradient of its loss.

Norms are over all that may change of a row; g is taken with respect to r alone, so weights and their gradients are not
touched.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.nn.perturbable import Perturbable
from saccade.nn.score_basis import Basis, BasisName, differences, free, nearest_words

Loss = Callable[[Tensor], Tensor]  # of logits: one number, or one for each row


def unit(x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """Every row over its norm; a row of zeros stays one."""
    flat = x.flatten(1)
    top = flat.abs().amax(1, keepdim=True)
    flat = flat / torch.where(top > 0, top, 1)  # squares of small numbers would vanish
    norm = flat.norm(dim=1, keepdim=True)
    return (flat / torch.where(norm > 0, norm, 1)).view_as(x)


def make_basis(seen: Perturbable, name: BasisName, neighbours: int = 10) -> Basis:
    """A basis by name; `neighbours` of "nearest".

    Raises ValueError where embeddings were given for scores, or scores for embeddings.
    """
    if name == "free":
        return free(seen.values, seen.keep)
    if (name == "nearest") != (seen.words is not None):
        wanted = "embeddings" if name == "nearest" else "scores"
        raise ValueError(f"basis='{name}' moves {wanted}, which were not given; choose another basis, or another level")
    if name == "nearest":
        assert seen.words is not None
        return nearest_words(seen.values, seen.keep, seen.words, neighbours)
    return differences(seen.values, seen.keep, name)


def gradient(seen: Perturbable, loss: Loss, at: Float[Tensor, "b ..."] | None = None) -> Float[Tensor, "b ..."]:
    """Of the loss with respect to what is added, at `at` or at nothing; 0 at what is not there."""
    r = (torch.zeros_like(seen.values) if at is None else at.detach()).requires_grad_()
    with torch.enable_grad():
        (found,) = torch.autograd.grad(loss(seen.run(r)).sum(), r)
    return found * seen.keep


def adversarial(seen: Perturbable, loss: Loss, eps: float, basis: Basis) -> Float[Tensor, "b ..."]:
    """r = eps D (D^T g / |D^T g|), without gradient."""
    return eps * basis.push(unit(basis.pull(gradient(seen, loss))))


def random_direction(basis: Basis, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Coordinates of norm 1 in every row, normal numbers, in the type of `like`; 0 where they move nothing."""
    device = like.device if generator is None else generator.device
    drawn = torch.randn(basis.moves.shape, generator=generator, dtype=like.dtype, device=device)
    return unit(drawn.to(like.device) * basis.moves)
