"""AttenCraft's losses: within the masks, and between where a word looks and where it should.

L      = L_rec + lambda_prior L_prior + L_attn
L_rec  = instance_weight  mean over channels of  sum v (m pred - m target)^2 / sum v
L_attn = mean over classes of  JSD(softmax(c_j), softmax(mask_j)),  over all tokens, natural log
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Compat = Literal["official"]
INSTANCE_WEIGHT = 4.0  # the released loss sums the autoencoder's four channels
TINY = 1e-16


def check_compat(compat: str | None) -> None:
    """Raise ValueError for another word."""
    if compat not in (None, "official"):
        raise ValueError(f"compat='{compat}' must be 'official', or None for what the paper says")


def jsd(p: Float[Tensor, "*s n"], q: Float[Tensor, "*s n"]) -> Float[Tensor, "*s"]:
    """Jensen-Shannon divergence of distributions along the last axis, at most ln 2."""

    def entropy(x: Tensor) -> Tensor:
        return (x * (x + TINY).log()).sum(-1)

    return entropy(p) / 2 + entropy(q) / 2 - entropy((p + q) / 2)


def attn_jsd_loss(c: Float[Tensor, "*b k h w"], masks: Bool[Tensor, "k h w"]) -> Float[Tensor, ""]:
    """L_attn of columns stretched to [0, 1], on the masks' grid."""
    p, q = (x.flatten(-2).softmax(-1) for x in (c, masks.to(c.dtype)))
    return jsd(p, q.expand_as(p)).mean()


def validity(size: tuple[int, int], ring: int = 1) -> Float[Tensor, "h w"]:
    """1 within a ring of zeros, which the released crop leaves around every latent.

    Raises ValueError for a ring that leaves nothing.
    """
    if not 0 <= 2 * ring < min(size):
        raise ValueError(f"ring={ring} must be 0 or more and leave something of {size[0]} x {size[1]} latents")
    found = torch.zeros(size)
    found[ring : size[0] - ring, ring : size[1] - ring] = 1
    return found


def spatial_weight(
    masks: Bool[Tensor, "k h w"], size: tuple[int, int], compat: Compat | None = None
) -> Float[Tensor, "y x"]:
    """m: where any of the masks is open, on the latents' grid, bicubic and clamped to [0, 1]; not clamped, as released.

    Raises ValueError for another `compat`.
    """
    check_compat(compat)
    whole = masks.any(0).float()[None, None]
    if tuple(masks.shape[-2:]) != tuple(size):
        whole = F.interpolate(whole, size=size, mode="bicubic", align_corners=False)
    return whole[0, 0] if compat == "official" else whole[0, 0].clamp(0, 1)


def reconstruction_loss(
    predicted: Float[Tensor, "b c h w"],
    target: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "h w"],
    valid: Float[Tensor, "h w"],
    *,
    instance_weight: float = INSTANCE_WEIGHT,
    official_broadcast: bool = False,
) -> Float[Tensor, ""]:
    """L_rec of the instance rows, mean over them.

    official_broadcast  half of it is the loss without the mask, as the released tensors broadcast
    Raises ValueError where nothing is valid.
    """
    if not bool(valid.any()):
        raise ValueError("valid is zero everywhere, so there is nothing to compare; give a smaller ring")
    square = (weight * predicted.float() - weight * target.float()).square()
    if official_broadcast:
        square = (square + (predicted.float() - target.float()).square()) / 2
    return instance_weight * ((valid * square).sum((-2, -1)) / valid.sum()).mean()
