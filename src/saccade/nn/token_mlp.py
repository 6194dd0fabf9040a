"""Static mixing of tokens: MLP-Mixer's feed-forward over the token axis, and a Fourier transform in its place.

    token_mlp    T(W2 gelu(W1 T(x)))      T swaps tokens and channels; one pair of weights for all channels
    fourier      Re(FFT over tokens and channels of x), unitary, nothing learned

How tokens are mixed depends on their places, never on what they hold. A mixer of `tokens` tokens fits that many only.

Sources: Tolstikhin et al., MLP-Mixer (2021); Lee-Thorp et al., FNet (2022).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.block import as_made_
from saccade.nn.part import MixerOutput, TokenPositions
from saccade.nn.registry import mixer


@mixer("token_mlp")
class TokenMlp(nn.Module):
    """Every channel of the picture through one feed-forward; there are no heads.

    tokens    how many there always are; a model that knows says it
    hidden    width inside; None: twice the channels
    dropout   after each of the two layers
    """

    def __init__(
        self, width: int, heads: int = 1, *, tokens: int, hidden: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.net = feed_forward(tokens, 2 * width if hidden is None else hidden, dropout)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        """Mix tokens; raises ValueError for another number of them, and where some must stay apart."""
        check_fixed(place, x.shape[1], self.tokens, "token_mlp")
        return MixerOutput(self.net(x.mT).mT, {})

    def reset(self) -> None:
        """As PyTorch starts linear layers."""
        as_made_(self)


@mixer("fourier")
class FourierMixer(nn.Module):
    """The real part of a unitary two-dimensional Fourier transform over tokens and channels."""

    def __init__(self, width: int, heads: int = 1) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        """Mix tokens; raises ValueError where some must stay apart."""
        check_fixed(place, x.shape[1], x.shape[1], "fourier")
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # no transform of half precision on every device
        return MixerOutput(torch.fft.fft2(wide, dim=(-2, -1), norm="ortho").real.to(x.dtype), {})


def feed_forward(width: int, hidden: int, dropout: float = 0.0) -> nn.Sequential:
    """Linear, GELU, dropout, linear, dropout.

    Raises ValueError for a size below 1 and for a dropout outside [0, 1).
    """
    if min(width, hidden) < 1:
        raise ValueError(f"width={width} and hidden={hidden} of a feed-forward must be at least 1")
    check_dropout(dropout)
    inner = nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout)
    return nn.Sequential(*inner, nn.Linear(hidden, width), nn.Dropout(dropout))


def check_dropout(dropout: float) -> None:
    """Raise ValueError for a share outside [0, 1)."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} must be in [0, 1), the share of activations that training leaves out")


def check_fixed(place: TokenPositions, found: int, tokens: int, name: str) -> None:
    """Raise ValueError unless there are `tokens` tokens, all of one sequence in which each may see all."""
    if found != tokens:
        raise ValueError(
            f"mixer '{name}' was made for tokens={tokens} and got {found}: its weights belong to places; "
            "give pictures of the size it was made for, or make another one"
        )
    if place.causal or place.lengths is not None or place.keep is not None:
        raise ValueError(f"mixer '{name}' mixes all tokens; causal, packed or padded sequences need 'attention'")
