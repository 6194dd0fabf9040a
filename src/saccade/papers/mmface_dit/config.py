"""Sizes and parts of MMFace-DiT, and the switches of its ablation."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from saccade.core.checks import check_word
from saccade.models.architecture import check_config
from saccade.nn.attention import per_head
from saccade.train.checks import check_share

Streams = Literal["dual", "single"]
Positions = Literal["rotary", "sincos"]
TextPositions = Literal["zero", "sequence"]
Taught = Literal["flow", "ddpm"]
FLOW_SCALE = 999.0  # what the released code multiplies a flow's times by


@dataclass(frozen=True, kw_only=True)
class MMFaceDiTConfig:
    """Sizes and parts; the defaults are the model of 256 px.

    depth, width, heads  blocks, channels of a token, heads of the shared attention
    ratio               hidden channels of the feed-forwards, in widths
    patch               side of a token, in latent pixels
    objective           what it is taught: "flow" has times in [0, 1] and 0 is noise, "ddpm" has the steps of a chain
    channels, picture_channels  of the latent, and of the condition's latent that is laid beside it
    words_width         of the embedded words and of the pooled vector that are given
    side                of the latent; what a pipeline draws, any other that is a multiple of `patch` will do
    streams             "single": picture and words in one sequence with one set of weights, about half of them a block
    positions           "sincos": added to the picture's tokens, in place of the rotation
    text_positions      "zero": all words at the first patch's place, as released; "sequence": as the paper says
    modalities          how many kinds of pictured conditions there are; 0: one kind, no embedding of it
    pooled_drop         share of pooled vectors that training replaces by the learned null
    classes, words      an embedding of the model's own for captions as that many word numbers, `words` a row; number
                        `classes` is padding. 0: words are given embedded
    recompute           blocks are run again by backward, to save memory
    Raises ValueError for options out of range.
    """

    depth: int = 28
    width: int = 1152
    heads: int = 16
    ratio: float = 4.0
    patch: int = 2
    side: int = 32
    channels: int = 16
    picture_channels: int = 16
    words_width: int = 1024
    objective: Taught = "flow"
    streams: Streams = "dual"
    positions: Positions = "rotary"
    text_positions: TextPositions = "zero"
    modalities: int = 2
    pooled_drop: float = 0.05
    classes: int = 0
    words: int = 24
    recompute: bool = False

    def __post_init__(self) -> None:
        check_config(self, depth=1, width=1, heads=1, patch=1, side=1, channels=1, picture_channels=0, words_width=1)
        check_config(self, modalities=0, classes=0, words=1)
        check_share(pooled_drop=self.pooled_drop)
        check_word(get_args(Taught), objective=self.objective)
        check_word(get_args(Streams), streams=self.streams)
        check_word(get_args(Positions), positions=self.positions)
        check_word(get_args(TextPositions), text_positions=self.text_positions)
        if per_head(self.width, self.heads) % 4:
            raise ValueError(
                f"width={self.width} with heads={self.heads} leaves {self.head_dim} channels a head, which must be a "
                "multiple of 4: pairs for rows and for columns"
            )
        if self.side % self.patch:
            raise ValueError(f"side={self.side} must be a multiple of patch={self.patch}")

    @property
    def head_dim(self) -> int:
        """Channels of each head."""
        return per_head(self.width, self.heads)


_TINY: dict[str, Any] = {"depth": 4, "width": 64, "heads": 4, "patch": 4, "channels": 3, "picture_channels": 3}
SIZES = {
    "256px": MMFaceDiTConfig(),
    "512px": MMFaceDiTConfig(side=64),
    "256px-ddpm": MMFaceDiTConfig(objective="ddpm"),
    "tiny": MMFaceDiTConfig(words_width=64, **_TINY),
}
