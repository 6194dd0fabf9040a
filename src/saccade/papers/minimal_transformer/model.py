"""A picture classifier from which parts are removed: the minimal transformer.

    picture -> patches, class token first, + learned positions -> blocks -> logits of the class token
    block      x = LN(x + drop(attention(x))), and with a feed-forward x = LN(x + drop(mlp(x)))

Source: Bermeitinger et al., "Reducing the transformer architecture to a minimum" (2024); sizes are a replication's.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal
from warnings import warn

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.checks import check_word
from saccade.models.architecture import Architecture, check_config, check_picture
from saccade.nn.embedders import Patchify
from saccade.nn.feedforward import Mlp
from saccade.nn.part import TokenPositions
from saccade.nn.token_mlp import check_dropout
from saccade.papers.minimal_transformer.minimal_attention import Kind, MinimalAttention


@dataclass(frozen=True, kw_only=True)
class MinimalTransformerConfig:
    """Sizes and parts.

    depth, width, heads   blocks, channels of a token, heads of the attention
    kind, bias, allow_multihead   as `MinimalAttention` takes them
    use_mlp, ratio   whether blocks have a feed-forward, and its width over that of a token
    patch, side, channels   of a token and of the picture, in pixels
    classes      of the labels
    dropout      of the embedded tokens and of what a block adds
    compat       "replication" keeps the second norm of blocks without a feed-forward, unused, and counts it
    Raises ValueError for options out of range.
    """

    depth: int = 6
    width: int = 64
    heads: int = 1
    kind: Kind = "unchanged"
    bias: bool = True
    allow_multihead: bool = False
    use_mlp: bool = True
    ratio: float = 1.0
    patch: int = 7
    side: int = 28
    channels: int = 1
    classes: int = 10
    dropout: float = 0.1
    compat: Literal["none", "replication"] = "none"

    def __post_init__(self) -> None:
        check_config(self, depth=1, width=1, heads=1, patch=1, side=1, channels=1, classes=1)
        check_dropout(self.dropout)
        check_word(("none", "replication"), compat=self.compat)
        if self.side % self.patch:
            raise ValueError(f"side={self.side} must be a multiple of patch={self.patch}")
        if int(self.ratio * self.width) < 1:
            raise ValueError(
                f"ratio={self.ratio} leaves no channel inside the feed-forward; use_mlp=False leaves it out"
            )


def sizes(data: str, **of: Any) -> dict[str, MinimalTransformerConfig]:
    """The replication's eight variants for one data set."""
    found = {
        f"{data}/{kind}{'+mlp' * mlp}": MinimalTransformerConfig(kind=kind, use_mlp=mlp, compat="replication", **of)
        for mlp in (True, False)
        for kind in ("unchanged", "wqk", "wqk_novo")
    }
    for heads in (1, 4):
        found[f"{data}/cholesky-{heads}"] = MinimalTransformerConfig(
            kind="symmetric/cholesky_slice", heads=heads, use_mlp=False, compat="replication", **of
        )
    return found


class MinimalBlock(nn.Module):
    """Attention, and a feed-forward if there is one, each added and then normalised."""

    def __init__(self, config: MinimalTransformerConfig) -> None:
        super().__init__()
        c = config
        self.attention = MinimalAttention(c.width, c.heads, kind=c.kind, bias=c.bias, allow_multihead=c.allow_multihead)
        self.mlp = Mlp(c.width, ratio=c.ratio, tanh=False) if c.use_mlp else None
        self.norm1 = nn.LayerNorm(c.width)
        self.norm2 = nn.LayerNorm(c.width) if c.use_mlp or c.compat == "replication" else None
        self.drop = nn.Dropout(c.dropout)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Float[Tensor, "b n d"]:
        x = self.norm1(x + self.drop(self.attention(x, place).out))
        if self.mlp is None or self.norm2 is None:
            return x
        return self.norm2(x + self.drop(self.mlp(x, place).out))


class MinimalTransformer(Architecture):
    """Logits of pictures of one size."""

    config_class = MinimalTransformerConfig
    config: MinimalTransformerConfig
    sizes: ClassVar[dict[str, Any]] = {
        **sizes("MNIST"),
        **sizes("CIFAR-10", side=32, patch=8, channels=3),
    }

    def __init__(self, config: MinimalTransformerConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.patches = Patchify(c.channels, c.patch, c.width)
        self.token = nn.Parameter(torch.zeros(1, 1, c.width))
        self.positions = nn.Parameter(torch.randn(1, 1 + (c.side // c.patch) ** 2, c.width))
        self.drop = nn.Dropout(c.dropout)
        self.blocks = nn.ModuleList(MinimalBlock(c) for _ in range(c.depth))
        self.head = nn.Linear(c.width, c.classes)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Logits, one for each class; sides other than `side` are refused."""
        return self.head(self.features(x))

    def features(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """What the logits are read from: the class token."""
        check_picture(x, self.config)
        tokens = torch.cat((self.token.expand(len(x), -1, -1), self.patches(x)), dim=1)
        tokens = self.drop(tokens + self.positions)
        for block in self.blocks:
            tokens = block(tokens, TokenPositions())
        return tokens[:, 0]


def overdetermination(samples: int, outputs: int, parameters: int) -> float:
    """Q = samples * outputs / parameters: numbers to be met for each that is free.

    Warns below 1, where the training set can be met exactly and says little of other data.
    Raises ValueError for a count below 1.
    """
    for name, value in (("samples", samples), ("outputs", outputs), ("parameters", parameters)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    found = samples * outputs / parameters
    if found < 1:
        warn(f"Q={found:.2f} is below 1: {parameters:,} parameters for {samples * outputs:,} targets", stacklevel=2)
    return found
