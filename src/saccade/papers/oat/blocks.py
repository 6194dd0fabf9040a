"""Encoder and decoder blocks with the norm after the sum, around any mixer.

x = norm(x + drop(mixer(x)))     [decoder: x = norm(x + drop(cross(x, encoded)))]     x = norm(x + drop(ffn(x)))

Source: Vaswani et al. (2017).
"""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.models.checkpoint_names import Names
from saccade.nn.cross_attention import CrossAttention
from saccade.nn.part import MixerOutput, TokenPositions

NAMES: Names = (  # below `layers.{}.` of torch's own encoder and decoder
    ("mixer.qkv.", "self_attn.in_proj_"),
    ("mixer.out.", "self_attn.out_proj."),
    ("cross.out.", "multihead_attn.out_proj."),
    ("cross.", "multihead_attn."),  # q, k and v are one matrix there
    ("ffn.0.", "linear1."),
    ("ffn.3.", "linear2."),
    ("norm1.", "norm1."),
    ("norm2.", "norm2."),
    ("norm3.", "norm3."),
)


class EncoderBlock(nn.Module):
    """A mixer and a feed-forward of two layers with a ReLU."""

    def __init__(self, width: int, mixer: nn.Module, hidden: int, dropout: float) -> None:
        super().__init__()
        self.mixer = mixer
        self.ffn = feedforward(width, hidden, dropout)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        mixed: MixerOutput = self.mixer(x, place)
        x = self.norm1(x + self.drop(mixed.out))
        return MixerOutput(self.norm2(x + self.drop(self.ffn(x))), mixed.losses)


class DecoderBlock(nn.Module):
    """The same with attention to what was encoded in between."""

    def __init__(self, width: int, heads: int, mixer: nn.Module, hidden: int, dropout: float) -> None:
        super().__init__()
        self.mixer, self.cross = mixer, CrossAttention(width, heads)
        self.ffn = feedforward(width, hidden, dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.drop = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        encoded: Float[Tensor, "b n d"],
        place: TokenPositions,
        mask: Bool[Tensor, "b 1 1 n"] | None,
    ) -> MixerOutput:
        mixed: MixerOutput = self.mixer(x, place)
        x = self.norm1(x + self.drop(mixed.out))
        x = self.norm2(x + self.drop(self.cross(x, encoded, mask)))
        return MixerOutput(self.norm3(x + self.drop(self.ffn(x))), mixed.losses)


def feedforward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """Two linear layers with a ReLU between."""
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width))
