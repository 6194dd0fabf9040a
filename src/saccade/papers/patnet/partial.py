"""Layers that convolve the first of C channels and do something cheaper to the others: PConv and PAT_ch.

    x1, x2 = the first C // divide channels, the rest
    pconv    (conv3x3(x1), x2)                     1 / divide^2 of a whole convolution's multiply-adds
    pat_ch   (conv3x3(x1), norm(x2 gate(x2)))      9 C1^2 + 2 C2^2 + 4 C2 parameters

Sources: Chen et al., FasterNet (2023); Huang et al., PATNet (2025).
"""

import warnings
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.checkpoint_names import Names
from saccade.nn.map_mixer import MapPart
from saccade.nn.registry import mixer
from saccade.papers.patnet.channel_gate import GaussianGate
from saccade.papers.patnet.official import OfficialLayer

STD = 0.02  # of the first weights


class PartialConv(OfficialLayer):
    """A 3 x 3 convolution of the first `width // divide` channels; the rest passes.

    Raises ValueError for a share that leaves no channels on one of the sides.
    """

    names: ClassVar[Names] = (("conv.", "partial_conv3."),)

    def __init__(self, width: int, *, divide: int = 4) -> None:
        super().__init__()
        self.convolved, self.rest = split(width, divide)
        self.conv = nn.Conv2d(self.convolved, self.convolved, 3, padding=1, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The same shape. Raises ValueError for another number of channels."""
        check_channels(x, self.convolved + self.rest)
        first, rest = x.split((self.convolved, self.rest), dim=1)
        return torch.cat((self.conv(first), self.attended(rest)), dim=1)

    def attended(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """What becomes of the channels that are not convolved."""
        return x

    def reset(self) -> None:
        """Weights of the paper's network at first."""
        normal_(self)


class ChannelPAT(PartialConv):
    """PAT_ch: the rest is gated channel by channel, by mean and standard deviation over the picture, and normed."""

    names: ClassVar[Names] = (
        *PartialConv.names,
        ("gate.mix.", "attn.cfc1."),
        ("gate.norm.", "attn.bn."),
        ("norm.", "norm."),
    )

    def __init__(self, width: int, *, divide: int = 4) -> None:
        super().__init__(width, divide=divide)
        self.gate, self.norm = GaussianGate(self.rest), nn.BatchNorm2d(self.rest)

    def attended(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Raises ValueError for maps of one position, and for one picture to train on."""
        return self.norm(self.gate(x))


@mixer("pconv")
class PConvMixer(MapPart):
    """Partial convolution, FasterNet's: a part of the channels looks at its neighbours, the rest passes.

    divide     share of the channels that are convolved, one in so many
    residual   in PATNet's blocks, add what it reads, as the released code does in a last stage without attention
    """

    def __init__(self, width: int, heads: int = 1, *, divide: int = 4, residual: bool = False) -> None:
        super().__init__("pconv", PartialConv(width, divide=divide))
        self.residual = residual


@mixer("pat_ch")
class ChannelPATMixer(MapPart):
    """PAT_ch: a part of the channels looks at its neighbours, the rest at the statistics of the picture.

    divide   share of the channels that are convolved, one in so many
    """

    residual = False

    def __init__(self, width: int, heads: int = 1, *, divide: int = 4) -> None:
        super().__init__("pat_ch", ChannelPAT(width, divide=divide))


def split(width: int, divide: int) -> tuple[int, int]:
    """Channels that are convolved, and the rest; warns where they do not come out even.

    Raises ValueError where one of them would be none.
    """
    if divide < 2 or width < divide:
        raise ValueError(f"divide={divide} must be at least 2 and at most the width={width}")
    if width % divide:
        warnings.warn(f"width={width} is no multiple of divide={divide}; {width // divide} are convolved", stacklevel=3)
    return width // divide, width - width // divide


def check_channels(x: Tensor, width: int) -> None:
    """Raise ValueError unless x is a map of that many channels."""
    if x.ndim != 4 or x.shape[1] != width:
        raise ValueError(f"x of shape {tuple(x.shape)} must be a feature map (b, {width}, h, w)")


def normal_(module: nn.Module) -> None:
    """Truncated-normal weights of deviation 0.02 in convolutions and linear layers, their biases 0; in place."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(layer.weight, std=STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
