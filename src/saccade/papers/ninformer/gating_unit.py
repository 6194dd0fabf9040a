"""NiNformer's mixer: a small MLP-Mixer reads the tokens and gives the gate of a linear projection of them.

    m1 = x + T(FF_token(T(LN x))),    m = m1 + FF_channel(LN m1)        the inner network; T swaps tokens and channels
    out = (W_p x + b_p) * m                                             element by element

The projection stands where values stand in attention, the gate where weights do: it follows from the tokens, no row of
it is normalised and nothing bounds it. Cost for n tokens of width d and hidden width f: n d^2 + 4 n d f multiply-adds.
Both factors grow with x, so half precision overflows early: under autocast the gate, and so the product, is float32.

Source: Abdullah & Aydin, "NiNformer" (2024).
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.checks import check_whole, check_word
from saccade.nn.block import as_made_
from saccade.nn.linear_attention import LocalTerm
from saccade.nn.part import MixerOutput, TokenPositions
from saccade.nn.registry import mixer
from saccade.nn.token_mlp import FourierMixer, TokenMlp, check_fixed, feed_forward

Gate = Literal["mixer", "fourier", "conv", "static"]
Activation = Literal["none", "sigmoid", "tanh"]
BOUNDS = {"none": nn.Identity, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}


class InnerNetwork(nn.Module):
    """x + mix(LN x), then + FF(LN x): a block of MLP-Mixer, where `mix` is the feed-forward over tokens."""

    def __init__(self, width: int, mix: nn.Module, ffn: nn.Module) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix, self.ffn = mix, ffn

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Float[Tensor, "b n d"]:
        x = x + self.mix(self.norm1(x), place).out
        return x + self.ffn(self.norm2(x))


class NeighbourMixer(nn.Module):
    """A 3 x 3 depthwise convolution of the grid."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.local = LocalTerm(width, 3)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        return MixerOutput(self.local(x, place), {})


class StaticGate(nn.Module):
    """One learned number for each token and channel, ones at first, whatever the picture holds."""

    steering: bool = True  # AdamW trains it

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(tokens, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All open."""
        nn.init.ones_(self.weight)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Float[Tensor, "b n d"]:
        return self.weight * torch.ones_like(x)  # a view of a weight would trip torch's counter of multiply-adds


@mixer("ninformer")
class MixerGatingUnit(nn.Module):
    """A projection of every token, gated by a network that mixes them; there are no heads.

    tokens       how many there always are; a model that knows says it
    hidden       width inside the channel feed-forward; None: twice the channels
    token_hidden  of the token feed-forward; None: as `hidden`
    dropout      in both
    gate         how the inner network mixes tokens: "mixer" by a feed-forward over them, "fourier" by a Fourier
                 transform, "conv" by a 3 x 3 depthwise convolution of the grid; "static": no network, learned numbers
    activation   of the gate: "none" as in the paper, "sigmoid" or "tanh"
    projection   False gates the tokens themselves
    Raises ValueError for options out of range.
    """

    def __init__(
        self,
        width: int,
        heads: int = 1,
        *,
        tokens: int,
        hidden: int | None = None,
        token_hidden: int | None = None,
        dropout: float = 0.0,
        gate: Gate = "mixer",
        activation: Activation = "none",
        projection: bool = True,
    ) -> None:
        super().__init__()
        check_word(get_args(Gate), gate=gate)
        check_word(get_args(Activation), activation=activation)
        check_whole(1, tokens=tokens)
        self.tokens = tokens
        hidden = 2 * width if hidden is None else hidden
        token_hidden = hidden if token_hidden is None else token_hidden
        if gate == "static":
            self.inner: nn.Module = StaticGate(tokens, width)
        else:
            mix = _mix(gate, width, tokens, token_hidden, dropout)
            self.inner = InnerNetwork(width, mix, feed_forward(width, hidden, dropout))
        self.activation = BOUNDS[activation]()
        self.projection = nn.Linear(width, width) if projection else nn.Identity()

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        """The gated projection; raises ValueError for another number of tokens, and where some must stay apart."""
        check_fixed(place, x.shape[1], self.tokens, "ninformer")
        return MixerOutput(self.projection(x) * self.gate(x, place), {})

    def gate(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Float[Tensor, "b n d"]:
        """What every element of the projection is multiplied by."""
        return self.activation(self.inner(x, place))

    def reset(self) -> None:
        """As PyTorch starts its layers, which is how the paper's code does; a static gate of ones."""
        as_made_(self)


def _mix(gate: Gate, width: int, tokens: int, hidden: int, dropout: float) -> nn.Module:
    if gate == "mixer":
        return TokenMlp(width, tokens=tokens, hidden=hidden, dropout=dropout)
    return FourierMixer(width) if gate == "fourier" else NeighbourMixer(width)
