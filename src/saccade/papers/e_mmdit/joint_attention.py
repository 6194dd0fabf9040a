"""Two streams, picture and words, that attend to one another and are otherwise apart.

    a, d = softmax attention over [picture; words], each stream with projections of its own
    x += gate1 a,   x += gate2 FFN(norm(x) (1 + scale2) + shift2),   the same for the words

Source: Esser et al., SD3 (2024); E-MMDiT (2025), subregions.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.attention import per_head
from saccade.nn.feedforward import Mlp
from saccade.nn.modulation import ModulationKind, block_modulation, modulate, norm
from saccade.nn.part import TokenPositions
from saccade.papers.e_mmdit.subregions import check_length, check_pattern, join, split

Vectors = tuple[Tensor, ...]


class Operands(NamedTuple):
    """q, k and v of one stream."""

    q: Float[Tensor, "b h n e"]
    k: Float[Tensor, "b h n e"]
    v: Float[Tensor, "b h n e"]


class StreamProjections(nn.Module):
    """One stream's way into and out of the attention; q and k pass an RMSNorm over each head."""

    def __init__(self, width: int, heads: int, *, out: bool = True) -> None:
        super().__init__()
        self.head_dim = per_head(width, heads)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.norm_q, self.norm_k = (nn.RMSNorm(self.head_dim, eps=1e-6) for _ in range(2))
        self.out: Any = nn.Linear(width, width) if out else None

    def forward(self, x: Float[Tensor, "b n d"]) -> Operands:
        q, k, v = (make(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2) for make in (self.q, self.k, self.v))
        return Operands(self.norm_q(q), self.norm_k(k), v)


class JointAttention(nn.Module):
    """Attention over picture and words together, or within each of `regions` groups of both.

    last   the words are only looked at: what they would see is not computed, and the answer for them is None
    """

    def __init__(self, width: int, heads: int, *, regions: int = 1, run: int = 1, last: bool = False) -> None:
        super().__init__()
        check_pattern(regions, run)
        self.regions, self.run = regions, run
        self.image, self.text = StreamProjections(width, heads), StreamProjections(width, heads, out=not last)

    def forward(
        self, x: Float[Tensor, "b n d"], words: Float[Tensor, "b m d"], keep: Bool[Tensor, "b m"] | None = None
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"] | None]:
        """`keep`: words that may be looked at; None for all, padding too."""
        if self.regions > 1:
            check_length(words.shape[1], self.regions, self.run, "words")
            x, words = (split(each, self.regions, self.run) for each in (x, words))
            keep = None if keep is None else split(keep, self.regions, self.run)
        outs = self._attended(x, words, keep)
        if self.regions == 1:
            return outs
        seen, text = outs
        return join(seen, self.regions, self.run), None if text is None else join(text, self.regions, self.run)

    def _attended(
        self, x: Float[Tensor, "b n d"], words: Float[Tensor, "b m d"], keep: Bool[Tensor, "b m"] | None
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"] | None]:
        image, text, tell = self.image(x), self.text(words), self.text.out
        q = image.q if tell is None else torch.cat((image.q, text.q), dim=2)
        k, v = (torch.cat(pair, dim=2) for pair in ((image.k, text.k), (image.v, text.v)))
        mask = None if keep is None else F.pad(keep, (x.shape[1], 0), value=True)[:, None, None]
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        return self.image.out(out[:, : x.shape[1]]), None if tell is None else tell(out[:, x.shape[1] :])


class Stream(nn.Module):
    """What one stream of a block has to itself: modulation, norms (only the first is learned) and feed-forward."""

    def __init__(self, width: int, *, ratio: float, modulation: ModulationKind) -> None:
        super().__init__()
        self.modulation = block_modulation(modulation, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), norm(width)
        self.ffn = Mlp(width, ratio=ratio)

    def enter(self, x: Float[Tensor, "b n d"], vectors: Vectors) -> Float[Tensor, "b n d"]:
        """What the attention is given."""
        return modulate(self.norm1(x), vectors[0], vectors[1])

    def leave(
        self, x: Float[Tensor, "b n d"], seen: Float[Tensor, "b n d"], vectors: Vectors
    ) -> Float[Tensor, "b n d"]:
        """The stream after the attention's answer and the feed-forward."""
        _, _, gate1, shift2, scale2, gate2 = vectors
        x = x + gate1 * seen
        return x + gate2 * self.ffn(modulate(self.norm2(x), shift2, scale2), TokenPositions()).out


class JointBlock(nn.Module):
    """A block of two streams; in the `last` one of a network the words are context only, and None afterwards."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        ratio: float = 3.0,
        modulation: ModulationKind = "affine",
        regions: int = 1,
        run: int = 1,
        last: bool = False,
    ) -> None:
        super().__init__()
        self.attention = JointAttention(width, heads, regions=regions, run=run, last=last)
        self.image = Stream(width, ratio=ratio, modulation=modulation)
        self.text = nn.LayerNorm(width) if last else Stream(width, ratio=ratio, modulation=modulation)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        words: Float[Tensor, "b m d"],
        c: Float[Tensor, "b k"],
        keep: Bool[Tensor, "b m"] | None = None,
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"] | None]:
        vectors = self.image.modulation(c)
        if isinstance(self.text, nn.LayerNorm):
            seen, _ = self.attention(self.image.enter(x, vectors), self.text(words), keep)
            return self.image.leave(x, seen, vectors), None
        more = self.text.modulation(c)
        seen, answer = self.attention(self.image.enter(x, vectors), self.text.enter(words, more), keep)
        return self.image.leave(x, seen, vectors), self.text.leave(words, answer, more)
