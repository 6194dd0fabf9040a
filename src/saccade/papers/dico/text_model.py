"""DiCo conditioned on words: after each mixer, a convolution whose kernels the caption writes, or attention.

    x + gate1 mixer(...), then x + reader(norm(x), words), then x + gate2 ffn(...)
    c = time + linear(mean of words)

Source: Ai et al., DiCo (2025). The paper names both readers and their place after the mixer; residual, norm and the
condition c are ours. Readers answer zero at first, so that a fresh block passes on what it gets.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.architecture import Prediction, check_config
from saccade.models.checkpoint_names import Names
from saccade.nn.block import DiTBlock, xavier_
from saccade.nn.cross_attention import CrossAttention
from saccade.nn.modulation import modulate, norm
from saccade.nn.part import MixerOutput, TokenPositions, added
from saccade.papers.dico.model import SIZES, DiCo, DiCoConfig
from saccade.papers.dico.text_conv import TextConv

Reader = Literal["conv", "attention"]


@dataclass(frozen=True, kw_only=True)
class DiCoTextConfig(DiCoConfig):
    """`words`: channels of a word.

    reader   "conv": a kernel of side `kernel` for each channel, up to kernel^2 words; "attention": tokens look at words
    Raises ValueError for options out of range.
    """

    words: int = 768
    reader: Reader = "conv"
    kernel: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        check_config(self, words=1)
        if self.reader not in get_args(Reader):
            raise ValueError(f"reader='{self.reader}' is unknown; choose one of {', '.join(get_args(Reader))}")


class DiCoText(DiCo):
    """A text-conditional convolutional denoiser; outputs zero at initialisation (adaLN-Zero)."""

    config_class = DiCoTextConfig
    config: DiCoTextConfig
    sizes: ClassVar[dict[str, Any]] = {
        name: DiCoTextConfig(width=size.width, depths=size.depths, ratio=size.ratio) for name, size in SIZES.items()
    }
    names: ClassVar[Names] = ()

    def _condition(self, width: int) -> nn.Module:
        made = nn.Linear(self.config.words, width)
        xavier_(made)
        return made

    def _block(self, k: int) -> DiTBlock:
        c, block, width = self.config, super()._block(k), k * self.config.width
        if c.reader == "conv":
            reader: TextConv | CrossAttention = TextConv(width, c.words, kernel=c.kernel)
        else:
            reader = CrossAttention(width, k * c.heads, key_width=c.words)
        return ReadingBlock(width, block.mixer, block.ffn, reader)

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], words: Float[Tensor, "b m e"]) -> Prediction:
        """The objective's prediction at time `t`; for guidance, say nothing by the words of an empty caption."""
        pooled = words.mean(1)
        conditions = [time(t) + label(pooled) for time, label in zip(self.time, self.label, strict=True)]
        return self.drawn(x, conditions, words)


class ReadingBlock(DiTBlock):
    """A block whose tokens read the caption between its halves."""

    def __init__(self, width: int, mixer: nn.Module, ffn: nn.Module, reader: TextConv | CrossAttention) -> None:
        super().__init__(width, mixer, ffn)
        self.norm_words, self.reader = norm(width), reader
        xavier_(reader)
        nn.init.zeros_((reader.outer if isinstance(reader, TextConv) else reader.out).weight)

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b n d"], c: Float[Tensor, "b d"], place: TokenPositions, words: Float[Tensor, "b m e"]
    ) -> MixerOutput:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(c)
        mixed: MixerOutput = self.mixer(modulate(self.norm1(x), shift1, scale1), place)
        x = x + gate1 * mixed.out
        place_too = (place,) if isinstance(self.reader, TextConv) else ()
        x = x + self.reader(self.norm_words(x), words, *place_too)
        fed: MixerOutput = self.ffn(modulate(self.norm2(x), shift2, scale2), replace(place, seen=mixed.seen))
        return MixerOutput(x + gate2 * fed.out, added((mixed.losses, fed.losses)))
