"""Mixers that PAT_ch is compared with: its gate without deviations, and a gate on all channels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.map_mixer import MapPart
from saccade.nn.registry import mixer
from saccade.papers.patnet.channel_gate import GaussianGate, statistics
from saccade.papers.patnet.partial import ChannelPAT, PartialConv


class MeanGate(GaussianGate):
    """A gate that sees means only."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.mix = nn.Conv2d(width, width, 1, bias=False)

    def gate(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 1 1"]:
        """Of each channel of each picture."""
        return F.hardsigmoid(self.norm(self.mix(statistics(x)[..., :1])))


class MeanPAT(ChannelPAT):
    """PAT_ch whose gate sees means only."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.gate = MeanGate(self.rest)


class WholePAT(PartialConv):
    """Some channels convolved, then all of them gated and normed."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.gate, self.norm = GaussianGate(width), nn.BatchNorm2d(width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The same shape."""
        first, rest = x.split((self.convolved, self.rest), dim=1)
        return self.norm(self.gate(torch.cat((self.conv(first), rest), dim=1)))


@mixer("pat_ch_mean")
class MeanPATMixer(MapPart):
    """`MeanPAT` of tokens on a grid."""

    residual = False

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__("pat_ch_mean", MeanPAT(width))


@mixer("pat_ch_whole")
class WholePATMixer(MapPart):
    """`WholePAT` of tokens on a grid."""

    residual = False

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__("pat_ch_whole", WholePAT(width))
