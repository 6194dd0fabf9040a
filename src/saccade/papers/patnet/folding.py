"""PATNet for inference: norms folded into the convolutions before them, half of PAT_sp into the feed-forward.

Rows of the feed-forward's last layer W that PAT_sp convolves meet a norm and a 1 x 1 convolution W_c, both linear:

    W' = W_c diag(gamma / sd) W        bias = W_c (beta - gamma mu / sd)

The half that PAT_sp weighs place by place cannot be folded. Source: Huang et al., PATNet (2025).
"""

from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from saccade.papers.patnet.model import PATNet
from saccade.papers.patnet.spatial import PATMlp, SpatialPAT


class FoldedSpatial(nn.Module):
    """What is left of PAT_sp: the first channels weighed place by place and normed, the rest as it comes."""

    def __init__(self, spatial: SpatialPAT) -> None:
        super().__init__()
        self.attended, self.score = spatial.attended, spatial.score
        self.scale, self.shift = map(nn.Parameter, affine(spatial.norm))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The same shape."""
        first, last = x.tensor_split((self.attended,), dim=1)
        weighed = first * F.hardsigmoid(self.score(first))
        return torch.cat((weighed * self.scale[:, None, None] + self.shift[:, None, None], last), dim=1)


def folded(model: PATNet) -> PATNet:
    """A copy in evaluation mode that computes the same with fewer layers; it is not to be trained or stored.

    Raises ValueError for a model that was folded already.
    """
    if any(isinstance(part, FoldedSpatial) for part in model.modules()) or isinstance(model.stem[1], nn.Identity):
        raise ValueError("model is folded already; fold the one that was trained")
    found = deepcopy(model).eval()
    for pair in (found.stem, *found.merges):
        assert isinstance(pair, nn.Sequential)
        pair[0], pair[1] = _joined(pair[0], pair[1]), nn.Identity()
    for part in [part for part in found.modules() if isinstance(part, PATMlp)]:
        _fold(part)
    return found


def _fold(mlp: PATMlp) -> None:
    """In place."""
    mlp.enter, mlp.norm = _joined(mlp.enter, mlp.norm), nn.Identity()
    if isinstance(spatial := mlp.spatial, SpatialPAT):
        mlp.leave = _leaving(mlp.leave, spatial)
        mlp.spatial = FoldedSpatial(spatial)


def _joined(conv: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """A convolution and the norm behind it as one convolution with a bias."""
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(conv, norm)


@torch.no_grad()
def _leaving(leave: nn.Conv2d, spatial: SpatialPAT) -> nn.Conv2d:
    """The feed-forward's last layer with the convolved half of PAT_sp in it."""
    weight = leave.weight.flatten(1)
    scale, shift = affine(spatial.norm_convolved)
    mix = spatial.conv.weight.flatten(1)
    made = nn.Conv2d(leave.in_channels, leave.out_channels, 1, device=weight.device, dtype=weight.dtype)
    first, last = weight[: spatial.attended], (mix * scale) @ weight[spatial.attended :]
    made.weight.copy_(torch.cat((first, last))[..., None, None])
    made.bias.copy_(torch.cat((torch.zeros_like(first[:, 0]), mix @ shift)))  # type: ignore[union-attr]
    return made


@torch.no_grad()
def affine(norm: nn.BatchNorm2d) -> tuple[Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Scale and shift of a batch norm in evaluation mode."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale
