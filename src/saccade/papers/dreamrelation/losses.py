"""What a step minimises: the reconstruction, with more weight where the subjects are, and the contrast of relations.

    L_rec = mean (u^ - u)^2 + lambda_m mean M (u^ - u)^2         mean over all elements
    g_i = mean of u^_i over places,   d_i = g_{i+1} - g_i        of latent frames i
    L_RCL = mean over i of  log sum exp over P and N of s(d_i, .) / tau  -  log sum exp over P of s(d_i, .) / tau

P are differences of other videos at the same i, N are features g of single frames; s is the cosine, as released, or the
dot product, as printed.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.checks import check_word

Compat = Literal["official"]
Similarity = Literal["cosine", "dot"]
MASK_WEIGHT, CONTRAST_WEIGHT = 50.0, 0.01
TEMPERATURE = 0.07


def masked_reconstruction(
    predicted: Float[Tensor, "b c *grid"],
    target: Float[Tensor, "b c *grid"],
    mask: Float[Tensor, "*grid"] | Float[Tensor, "b ..."] | None = None,
    *,
    weight: float = MASK_WEIGHT,
    compat: Compat | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error, and `weight` times that under the mask; a mask may be one for all rows or one for each.

    mask    None for none
    compat  "official": the mask is squared, which differs where it is neither 0 nor 1, as where two subjects meet
    Raises ValueError for a mask of other places, and for another compat.
    """
    if compat is not None:
        check_word(get_args(Compat), compat=compat)
    error = (predicted.float() - target.float()).square()
    if mask is None:
        return error.mean()
    grid = tuple(error.shape[2:])
    if tuple(mask.shape) not in (grid, (error.shape[0], *grid)):
        raise ValueError(f"mask of {tuple(mask.shape)} must be {grid}, the places of what is predicted, for all rows "
                         f"or {error.shape[0]} of them")  # fmt: skip
    weights = mask.to(error) if mask.ndim == len(grid) else mask.to(error)[:, None]
    weights = weights.square() if compat == "official" else weights
    return error.mean() + weight * (weights * error).mean()


def appearance(predicted: Float[Tensor, "*b c f h w"]) -> Float[Tensor, "*b f c"]:
    """g: what single frames look like, their mean over places."""
    return predicted.float().mean((-2, -1)).mT


def dynamics(features: Float[Tensor, "*b f c"]) -> Float[Tensor, "*b f-1 c"]:
    """d: how the features change from frame to frame. Raises ValueError for one frame, which has no change."""
    if features.shape[-2] < 2:
        raise ValueError(
            f"{features.shape[-2]} latent frame has no differences to contrast; give a video, or contrast=None for "
            "pictures"
        )
    return features.diff(dim=-2)


def contrastive_loss(
    anchors: Float[Tensor, "a 1 c"] | Float[Tensor, "a c"],
    positives: Float[Tensor, "a p c"],
    negatives: Float[Tensor, "a n c"],
    *,
    temperature: float = TEMPERATURE,
    similarity: Similarity = "cosine",
) -> Float[Tensor, ""]:
    """The mean over anchors; 0 only where all weight is on the positives.

    A vector of zeros is like nothing: its cosine is 0, with gradient 0.
    Raises ValueError without positives, for counts of anchors that differ, and for options out of range.
    """
    check_word(get_args(Similarity), similarity=similarity)
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be above 0; the paper has {TEMPERATURE}")
    if not (len(anchors) == len(positives) == len(negatives) and positives.shape[1]):
        raise ValueError(
            f"{len(anchors)} anchors need as many rows of positives, {tuple(positives.shape)}, at least one in each, "
            f"and of negatives, {tuple(negatives.shape)}"
        )
    anchors = anchors.reshape(len(anchors), 1, -1)
    others = torch.cat((positives, negatives), dim=1)
    if similarity == "cosine":
        anchors, others = unit(anchors), unit(others)
    logits = (anchors * others).sum(-1) / temperature  # (a p+n)
    return (logits.logsumexp(1) - logits[:, : positives.shape[1]].logsumexp(1)).mean()


def unit(x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
    """Vectors of length one; zeros stay zeros."""
    size = x.square().sum(-1, keepdim=True)
    some = size > 0
    return torch.where(some, x * torch.where(some, size, 1.0).rsqrt(), 0.0)
