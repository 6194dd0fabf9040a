"""A gate on channels by mean and standard deviation of each over the picture: Gaussian channel attention.

    g = hardsigmoid(norm(W (mu, sd)))      W: every gate by both statistics of all channels, C x C x 2

sd divides by h w - 1. Source: Huang et al., PATNet (2025); the statistics are those of style recalibration (2019).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

LEAST = 1e-12  # of a variance: the root has no gradient at 0


class GaussianGate(nn.Module):
    """x times a gate in [0, 1] for each channel, which sees x by its mean and standard deviation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, width, (1, 2), bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Raises ValueError for maps of one position, and for one picture to train on."""
        return x * self.gate(x)

    def gate(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
        """Of each channel of each picture. Raises ValueError as `forward` does."""
        if self.training and len(x) == 1:
            raise ValueError(
                "the gate's batch norm has one value for each channel of each picture, and this batch holds one "
                "picture; train on more, or call eval()"
            )
        return F.hardsigmoid(self.norm(self.mix(statistics(x))))


def statistics(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 2"]:
    """Mean and unbiased standard deviation over the positions, in float32 at least.

    Raises ValueError for maps of one position, which have no deviation.
    """
    flat = x.flatten(2).to(torch.promote_types(x.dtype, torch.float32))
    if flat.shape[-1] < 2:
        raise ValueError(
            f"x of shape {tuple(x.shape)} has one position and so no standard deviation; give a larger map, or attend "
            "by pat_sf there"
        )
    mean = flat.mean(-1, keepdim=True)
    variance = (flat - mean).square().sum(-1, keepdim=True) / (flat.shape[-1] - 1)
    return torch.cat((mean, variance.clamp(min=LEAST).sqrt()), dim=-1)[:, :, None].to(x.dtype)
