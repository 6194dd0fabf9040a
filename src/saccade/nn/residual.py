"""The plain residual block: norm, mixer, add; norm, feed-forward, add."""

from dataclasses import replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.part import MixerOutput, TokenPositions, added

NormKind = Literal["layer", "rms"]


class ResidualBlock(nn.Module):
    """x + mixer(norm(x)), then x + ffn(norm(x))."""

    def __init__(self, width: int, mixer: nn.Module, ffn: nn.Module, *, norm: NormKind = "layer") -> None:
        super().__init__()
        self.norm1, self.norm2 = learned_norm(norm, width), learned_norm(norm, width)
        self.mixer, self.ffn = mixer, ffn

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        mixed: MixerOutput = self.mixer(self.norm1(x), place)
        x = x + mixed.out
        fed: MixerOutput = self.ffn(self.norm2(x), replace(place, seen=mixed.seen))
        return MixerOutput(x + fed.out, added((mixed.losses, fed.losses)))


def learned_norm(kind: NormKind, width: int) -> nn.Module:
    """A norm over channels with a learned scale, and a shift where it is a LayerNorm.

    Raises ValueError for another kind.
    """
    if kind not in (known := {"layer": nn.LayerNorm, "rms": nn.RMSNorm}):
        raise ValueError(f"norm='{kind}' must be one of {', '.join(known)}")
    return known[kind](width, eps=1e-6)


def small_normal_(module: nn.Module, *, std: float = 0.02) -> None:
    """Normal weights and zero biases in every linear layer of `module`, as language models start; in place."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
