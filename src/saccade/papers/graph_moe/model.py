"""A small causal language model whose feed-forwards may route: what routers are compared on.

    words -> blocks x + mixer(norm(x)), x + ffn(norm(x)) -> norm -> words, by the embedding's own matrix

Positions are rotations inside the mixer. The mixture-of-experts language models of the literature, made small.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.models.architecture import Architecture, Prediction, check_config
from saccade.nn.block import xavier_
from saccade.nn.part import Losses, MixerOutput, TokenPositions, added
from saccade.nn.registry import make_feedforward, make_mixer


@dataclass(frozen=True, kw_only=True)
class RoutedLMConfig:
    """Sizes and parts.

    words   size of the vocabulary
    depth, width, heads   blocks, channels of a token, heads of the attention
    mixer, ffn   of every block, as text
    """

    words: int = 65
    depth: int = 4
    width: int = 128
    heads: int = 4
    mixer: str = "attention(rotary=True)"
    ffn: str = "moe(experts=8, top=2, shared=0, kind='relu', hidden=128, norm_topk=True)"

    def __post_init__(self) -> None:
        check_config(self, words=2, depth=1, width=1, heads=1)


class RoutedBlock(nn.Module):
    """Mixer and feed-forward, each behind a norm; the feed-forward hears what the mixer saw."""

    def __init__(self, config: RoutedLMConfig) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.mixer = make_mixer(config.mixer, config.width, config.heads)
        self.ffn = make_feedforward(config.ffn, config.width)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> tuple[Float[Tensor, "b n d"], Losses]:
        mixed: MixerOutput = self.mixer(self.norm1(x), place)
        x = x + mixed.out
        fed: MixerOutput = self.ffn(self.norm2(x), replace(place, seen=mixed.seen))
        return x + fed.out, added((mixed.losses, fed.losses))


class RoutedLM(Architecture):
    """Logits of the next word at every place."""

    config_class = RoutedLMConfig
    config: RoutedLMConfig
    sizes: ClassVar[dict[str, Any]] = {"tiny": RoutedLMConfig()}

    def __init__(self, config: RoutedLMConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.words = nn.Embedding(c.words, c.width)
        blocks = [RoutedBlock(c) for _ in range(c.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(c.width)
        nn.init.normal_(self.words.weight, std=c.width**-0.5)
        for block in blocks:
            xavier_(block.mixer)

    def forward(self, ids: Int[Tensor, "b n"], keep: Bool[Tensor, "b n"] | None = None) -> Prediction:
        """`keep`: true at words, false at padding."""
        x, place, losses = self.words(ids), TokenPositions(causal=True, keep=keep), []
        for block in self.blocks:
            x, more = block(x, place)
            losses.append(more)
        return Prediction(self.norm(x) @ self.words.weight.mT, added(losses))
