"""A picture classifier of any mixers and feed-forwards: the plain vision transformer as others are compared with it.

    picture -> patches (+ class token) + learned positions -> blocks -> norm -> class token, or mean -> logits

Source: Dosovitskiy et al., "An image is worth 16x16 words" (2021).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.architecture import Architecture, Prediction, check_config, check_picture
from saccade.models.parts import Parts, check_parts, part
from saccade.nn.block import xavier_
from saccade.nn.embedders import Patchify
from saccade.nn.part import TokenPositions, added
from saccade.nn.registry import make_feedforward, make_mixer
from saccade.nn.residual import ResidualBlock
from saccade.nn.routing import name_routers


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Sizes and parts.

    depth, width, heads   blocks, channels of a token, heads of a mixer
    patch, side, channels   of a token and of the picture, in pixels
    mixer, ffn   one text for all blocks, or one for each
    pool         what the logits read: the mean of all tokens, or a class token of its own, for mixers without a grid
    Raises ValueError for options out of range.
    """

    depth: int = 6
    width: int = 128
    heads: int = 4
    patch: int = 4
    side: int = 32
    channels: int = 3
    classes: int = 10
    mixer: Parts = "attention"
    ffn: Parts = "mlp"
    pool: Literal["mean", "class"] = "mean"

    def __post_init__(self) -> None:
        check_config(self, depth=1, width=1, heads=1, patch=1, side=1, channels=1, classes=2)
        check_parts(self.depth, mixer=self.mixer, ffn=self.ffn)
        if self.side % self.patch:
            raise ValueError(f"side={self.side} must be a multiple of patch={self.patch}")
        if self.pool not in ("mean", "class"):
            raise ValueError(f"pool='{self.pool}' must be mean or class")


class ViT(Architecture):
    """Logits of pictures."""

    config_class = ViTConfig
    config: ViTConfig
    sizes: ClassVar[dict[str, Any]] = {
        name: ViTConfig(depth=12, width=width, heads=width // 64, patch=16, side=224, classes=1000, pool="class")
        for name, width in (("Ti/16", 192), ("S/16", 384), ("B/16", 768))
    }

    def __init__(self, config: ViTConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        side, self.first = c.side // c.patch, int(c.pool == "class")
        self.place = TokenPositions() if self.first else TokenPositions(grid=(side, side))
        self.patches = Patchify(c.channels, c.patch, c.width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, self.first + side**2, c.width))
        self.token = nn.Parameter(torch.zeros(1, 1, c.width)) if self.first else None
        self.blocks = nn.ModuleList(fresh_block(c, i) for i in range(c.depth))
        self.norm, self.head = nn.LayerNorm(c.width, eps=1e-6), nn.Linear(c.width, c.classes)
        name_routers(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Prediction:
        """Logits (b, classes), with the parts' auxiliary losses. Sides other than `side` are refused."""
        features, losses = self.features(x)
        return Prediction(self.head(features), losses)

    def features(self, x: Float[Tensor, "b c h w"]) -> Prediction:
        """What the logits are read from, (b, width)."""
        check_picture(x, self.config)
        tokens = self.patches(x)
        if self.token is not None:
            tokens = torch.cat((self.token.expand(len(x), -1, -1), tokens), dim=1)
        tokens, losses = tokens + self.positions, []
        for block in self.blocks:
            tokens, more, _ = block(tokens, self.place)
            losses.append(more)
        tokens = self.norm(tokens)
        return Prediction(tokens[:, 0] if self.first else tokens.mean(1), added(losses))


def fresh_block(config: ViTConfig, i: int) -> ResidualBlock:
    """Block i, its linear layers Xavier-uniform; a part with a method `reset` starts as that says."""
    mixer = make_mixer(part(config.mixer, i), config.width, config.heads)
    ffn = make_feedforward(part(config.ffn, i), config.width)
    for each in (mixer, ffn):
        getattr(each, "reset", lambda each=each: xavier_(each))()
    return ResidualBlock(config.width, mixer, ffn)
