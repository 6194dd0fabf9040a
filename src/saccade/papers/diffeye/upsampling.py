"""Features sharpened by the picture's colours: a joint bilateral filter without learned weights.

Each cell takes the mean of its neighbours' features, weighed by how near they are and how alike their colours:

    w_ij = exp(-|i - j|^2 / (2 space^2)) exp(-|colour_i - colour_j|^2 / (2 colour^2))

Source: Kopf et al., "Joint bilateral upsampling" (2007), which FeatUp stacks and learns.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def by_colour(
    features: Float[Tensor, "b c h w"],
    colours: Float[Tensor, "b 3 h w"],
    *,
    radius: int = 2,
    space: float = 1.0,
    colour: float = 0.1,
) -> Float[Tensor, "b c h w"]:
    """The filter over (2 radius + 1)^2 neighbours; those outside the picture do not count."""
    near = _neighbours(colours, radius)
    alike = (-(near - colours[:, :, None]).square().sum(1) / (2 * colour**2)).exp()  # b k h w
    inside = _neighbours(torch.ones_like(colours[:, :1]), radius)[:, 0]
    weights = alike * inside * _distances(radius, space).to(features)[None, :, None, None]
    weights = weights / weights.sum(1, keepdim=True)
    return (_neighbours(features, radius) * weights[:, None]).sum(2)


def _neighbours(x: Float[Tensor, "b c h w"], radius: int) -> Float[Tensor, "b c k h w"]:
    side = 2 * radius + 1
    return F.unfold(x, side, padding=radius).view(*x.shape[:2], side * side, *x.shape[2:])


def _distances(radius: int, space: float) -> Float[Tensor, " k"]:
    steps = torch.arange(-radius, radius + 1.0)
    return (-(steps[:, None].square() + steps[None].square()) / (2 * space**2)).exp().flatten()
