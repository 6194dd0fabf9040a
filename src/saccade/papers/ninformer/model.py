"""NiNformer, a picture classifier without attention.

    picture -> patches -> NiN blocks -> mean over tokens -> logits        no positions, no class token, no last norm

Source: Abdullah & Aydin, "NiNformer: A network in network transformer" (2024).
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.architecture import Architecture, check_config, check_picture
from saccade.models.checkpoint_names import Names
from saccade.nn.embedders import Patchify
from saccade.nn.part import TokenPositions
from saccade.nn.token_mlp import check_dropout
from saccade.papers.ninformer.block import STACK_NAMES, NiNStack
from saccade.papers.ninformer.gating_unit import Activation, Gate


@dataclass(frozen=True, kw_only=True)
class NiNformerConfig:
    """Sizes and parts; how many tokens there are follows from `side` and `patch`.

    depth, width  blocks, channels of a token
    hidden       width inside every feed-forward, that over tokens too
    patch, side, channels   of a token and of the picture, in pixels
    classes      of the labels
    dropout      in every feed-forward; 0.5 in the official preset, which is much for a small model
    shared_norm  one LayerNorm before both halves of a block
    gate         how the inner network mixes tokens: "mixer", "fourier", "conv"; or "static", learned numbers
    activation   of the gate: "none", "sigmoid", "tanh"
    projection   False gates the tokens themselves
    Raises ValueError for options out of range.
    """

    depth: int = 4
    width: int = 256
    hidden: int = 512
    patch: int = 4
    side: int = 32
    channels: int = 3
    classes: int = 10
    dropout: float = 0.5
    shared_norm: bool = True
    gate: Gate = "mixer"
    activation: Activation = "none"
    projection: bool = True

    def __post_init__(self) -> None:
        check_config(self, depth=1, width=1, hidden=1, patch=1, side=1, channels=1, classes=1)
        check_dropout(self.dropout)
        if self.side % self.patch:
            raise ValueError(f"side={self.side} must be a multiple of patch={self.patch}")

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens down and across."""
        return (self.side // self.patch, self.side // self.patch)


SIZES = {
    "CIFAR-10": NiNformerConfig(),
    "CIFAR-100": NiNformerConfig(classes=100),
    "MNIST": NiNformerConfig(side=28, channels=1),
}


class NiNformer(Architecture):
    """Logits of pictures of one size."""

    config_class = NiNformerConfig
    config: NiNformerConfig
    sizes: ClassVar[dict[str, Any]] = SIZES
    names: ClassVar[Names] = (
        ("patches.conv.", "patcher."),
        ("head.", "classifier."),
        *((f"stack.{ours}", theirs) for ours, theirs in STACK_NAMES),
    )

    def __init__(self, config: NiNformerConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.patches = Patchify(c.channels, c.patch, c.width)
        self.stack = NiNStack(
            c.width, depth=c.depth, tokens=c.grid[0] * c.grid[1], hidden=c.hidden, dropout=c.dropout,
            shared_norm=c.shared_norm, gate=c.gate, activation=c.activation, projection=c.projection,
        )  # fmt: skip
        self.head = nn.Linear(c.width, c.classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits, one for each class; sides other than `side` are refused."""
        return self.head(self.features(x))

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """What the logits are read from: the mean over tokens."""
        check_picture(x, self.config)
        return self.stack(self.patches(x), TokenPositions(grid=self.config.grid)).mean(1)
