"""The block of PT-DiT: proxies, windows, shifted windows, words, feed-forward.

Source: Wang et al., PT-DiT / Qihoo-T2X (2024); modulation and words as in Chen et al., PixArt-alpha (2024).
"""

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.block import xavier_
from saccade.nn.cross_attention import CrossAttention
from saccade.nn.modulation import TableModulation, modulate, norm
from saccade.nn.part import MixerOutput, TokenPositions
from saccade.papers.pt_dit.proxies import Proxies
from saccade.papers.pt_dit.proxy_attention import Inject, ProxyInjection, WindowAttention, zero_

Step = Literal["proxies", "near", "far"]
STEPS: tuple[Step, ...] = get_args(Step)


class PTDiTBlock(nn.Module):
    """One of the identical blocks; every step adds to the stream.

    steps       those that mix tokens; leaving some out is the paper's ablation
    modulated   time shifts, scales and gates the proxies' attention too, as drawn in the paper but not in its code
    """

    def __init__(
        self,
        width: int,
        heads: int,
        proxies: Proxies,
        ffn: nn.Module,
        *,
        inject: Inject = "cross",
        steps: tuple[Step, ...] = STEPS,
        modulated: bool = False,
    ) -> None:
        super().__init__()
        self.modulated, self.norm, self.modulation = modulated, norm(width), TableModulation(width)
        self.proxies = ProxyInjection(width, heads, proxies, inject=inject) if "proxies" in steps else None
        self.near = WindowAttention(width, heads, window=proxies.window) if "near" in steps else None
        self.far = None
        if "far" in steps:
            self.far = WindowAttention(width, heads, window=proxies.window, shifted=True)
            self.far_modulation, self.far_out = TableModulation(width, 3), nn.Linear(width, width)
        self.words = CrossAttention(width, heads)
        xavier_(self)
        self.ffn = ffn
        for closed in (self.proxies and self.proxies.out, self.far and self.far_out):
            if closed is not None:
                zero_(closed)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        shared: Float[Tensor, "b k"],
        place: TokenPositions,
        words: Float[Tensor, "b l d"],
        hidden: Float[Tensor, "b 1 1 l"] | None = None,
    ) -> MixerOutput:
        """`shared`: six vectors for each sample; `hidden`: what to add to the scores of words that are not there."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(shared)
        if self.proxies is not None:
            x = x + self.proxies(x, place.grid, (shift1, scale1, gate1) if self.modulated else None)
        if self.near is not None:
            x = x + gate1 * self.near(modulate(self.norm(x), shift1, scale1), place).out
        if self.far is not None:
            shift3, scale3, gate3 = self.far_modulation(shared)
            x = x + self.far_out(gate3 * self.far(modulate(self.norm(x), shift3, scale3), place).out)
        x = x + self.words(x, words, hidden)
        fed: MixerOutput = self.ffn(modulate(self.norm(x), shift2, scale2), place)
        return MixerOutput(x + gate2 * fed.out, fed.losses)
