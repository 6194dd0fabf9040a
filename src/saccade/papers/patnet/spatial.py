"""PAT_sp, the end of the feed-forward: the first half of the channels is weighed place by place, the last is convolved.

    xa, xb = the first C - C // 2 channels, the rest
    (norm(xa hardsigmoid(score(xa))), conv(norm(xb)))      score: 1 x 1 to one channel; conv: 1 x 1

What happens to xb is linear and can be folded into the layer before it: see `folding`.
Source: Huang et al., PATNet (2025).
"""

from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.checkpoint_names import Names
from saccade.nn.map_mixer import MapPart
from saccade.nn.registry import feedforward
from saccade.papers.patnet.official import OfficialLayer, below
from saccade.papers.patnet.partial import check_channels, normal_

Activation = Literal["gelu", "relu"]


class SpatialPAT(OfficialLayer):
    """Ca + Cb^2 + 2 Ca + 2 Cb parameters for halves of Ca and Cb channels.

    Raises ValueError for less than two channels.
    """

    names: ClassVar[Names] = (
        ("score.", "conv_attn."),
        ("conv.", "conv."),
        ("norm.", "norm."),
        ("norm_convolved.", "norm2."),
    )

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 2:
            raise ValueError(f"width={width} must be at least 2, a channel for each half")
        self.convolved, self.attended = width // 2, width - width // 2
        self.score = nn.Conv2d(self.attended, 1, 1, bias=False)
        self.norm, self.norm_convolved = nn.BatchNorm2d(self.attended), nn.BatchNorm2d(self.convolved)
        self.conv = nn.Conv2d(self.convolved, self.convolved, 1, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The same shape. Raises ValueError for another number of channels."""
        check_channels(x, self.attended + self.convolved)
        first, last = x.split((self.attended, self.convolved), dim=1)
        weighed = self.norm(first * self.gate(first))
        return torch.cat((weighed, self.conv(self.norm_convolved(last))), dim=1)

    def gate(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """The weight in [0, 1] of every place, from the attended channels."""
        return F.hardsigmoid(self.score(x))


class PATMlp(OfficialLayer):
    """Two 1 x 1 convolutions, a norm and an activation between, `ratio` times as wide; then PAT_sp if `spatial`.

    Raises ValueError for an unknown activation and for a ratio that leaves no channels.
    """

    names: ClassVar[Names] = (
        ("enter.", "0."),
        ("norm.", "1."),
        ("leave.", "3."),
        *below("spatial.", "4.", SpatialPAT.names),
    )

    def __init__(self, width: int, *, ratio: float = 2.0, act: Activation = "gelu", spatial: bool = True) -> None:
        super().__init__()
        hidden = int(ratio * width)
        if hidden < 1:
            raise ValueError(f"ratio={ratio} must be above 0, enough for one of width={width} channels inside")
        self.enter = nn.Conv2d(width, hidden, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(hidden)
        self.act = activation(act)
        self.leave = nn.Conv2d(hidden, width, 1, bias=False)
        self.spatial: nn.Module = SpatialPAT(width) if spatial else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.spatial(self.leave(self.act(self.norm(self.enter(x)))))

    def reset(self) -> None:
        """Weights of the paper's network at first."""
        normal_(self)


@feedforward("pat_mlp")
class PATMlpPart(MapPart):
    """PATNet's feed-forward over the tokens of a grid.

    ratio     how much wider it is inside
    act       "gelu" or "relu"
    spatial   end with PAT_sp: half of the channels weighed place by place
    """

    def __init__(self, width: int, *, ratio: float = 2.0, act: Activation = "gelu", spatial: bool = True) -> None:
        super().__init__("pat_mlp", PATMlp(width, ratio=ratio, act=act, spatial=spatial))


def activation(name: str) -> nn.Module:
    """The activation of that name; raises ValueError for another."""
    if name not in get_args(Activation):
        raise ValueError(f"act='{name}' is unknown; choose one of {', '.join(get_args(Activation))}")
    return nn.GELU() if name == "gelu" else nn.ReLU()
