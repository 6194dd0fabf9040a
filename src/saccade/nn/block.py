"""The residual block of a diffusion transformer: any mixer, any feed-forward, one modulation.

Source: Peebles & Xie, DiT (2023).
"""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.modulation import ModulationKind, ZeroModulation, block_modulation, modulate, norm
from saccade.nn.packing import per_token
from saccade.nn.part import MixerOutput, TokenPositions, added


class DiTBlock(nn.Module):
    """x + gate1 mixer(norm(x) (1 + scale1) + shift1), then the same with the feed-forward."""

    def __init__(self, width: int, mixer: nn.Module, ffn: nn.Module, *, modulation: ModulationKind = "zero") -> None:
        super().__init__()
        self.modulation = block_modulation(modulation, width)
        self.norm1, self.norm2 = norm(width), norm(width)
        self.mixer, self.ffn = mixer, ffn

    def forward(self, x: Float[Tensor, "b n d"], c: Float[Tensor, "s *n k"], place: TokenPositions) -> MixerOutput:
        """`c`: a condition for each row (b k), for each packed sequence (s k), or for each token (b n k)."""
        vectors = self.modulation(c)
        if place.lengths is not None and c.ndim == 2:
            vectors = (per_token(each, place.lengths) for each in vectors)
        shift1, scale1, gate1, shift2, scale2, gate2 = vectors
        mixed: MixerOutput = self.mixer(modulate(self.norm1(x), shift1, scale1), place)
        x = x + gate1 * mixed.out
        fed: MixerOutput = self.ffn(modulate(self.norm2(x), shift2, scale2), replace(place, seen=mixed.seen))
        return MixerOutput(x + gate2 * fed.out, added((mixed.losses, fed.losses)))


class FinalLayer(nn.Module):
    """Norm, modulation and projection to pixels; zero at first."""

    def __init__(self, width: int, out: int, *, condition: int | None = None) -> None:
        super().__init__()
        self.norm, self.linear = norm(width), nn.Linear(width, out)
        self.modulation = ZeroModulation(width, 2, condition=condition)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Float[Tensor, "b n d"], c: Float[Tensor, "b e"]) -> Float[Tensor, "b n k"]:
        return self.linear(modulate(self.norm(x), *self.modulation(c)))


def xavier_(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases in every linear layer of `module`; in place."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def as_made_(module: nn.Module) -> None:
    """Every layer of `module` as it is when new, by its own `reset_parameters`; in place."""
    for layer in module.modules():
        getattr(layer, "reset_parameters", lambda: None)()
