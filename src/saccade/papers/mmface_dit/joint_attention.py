"""Blocks in which a picture and its words attend to one another: two streams, or one sequence of both.

    12 vectors (shift, scale, gate; of attention and feed-forward; of picture and words) = linear(silu(c))
    a, d = attention over [picture; words], q and k turned by place, each stream with projections of its own
    x += gate a,   x += gate' FFN(norm(x) (1 + scale') + shift'),   the same for the words

Projections have no biases, q and k no norms, and no word is masked. Source: the paper's code.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.attention import per_head
from saccade.nn.feedforward import Mlp
from saccade.nn.modulation import ZeroModulation, modulate, norm
from saccade.nn.part import TokenPositions
from saccade.nn.positions import rotate
from saccade.papers.mmface_dit.config import Streams

Vectors = tuple[Tensor, ...]
Table = Float[Tensor, "2 s e"]  # of all tokens together


class Operands(NamedTuple):
    """q, k and v of some tokens."""

    q: Float[Tensor, "b h n e"]
    k: Float[Tensor, "b h n e"]
    v: Float[Tensor, "b h n e"]


class Stream(nn.Module):
    """What one stream of a block has to itself, but for its modulation: norms, projections and feed-forward."""

    def __init__(self, width: int, heads: int, *, ratio: float) -> None:
        super().__init__()
        self.head_dim = per_head(width, heads)
        self.norm1, self.norm2 = norm(width), norm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.ffn = Mlp(width, ratio=ratio)

    def operands(self, x: Float[Tensor, "b n d"], vectors: Vectors) -> Operands:
        """What the stream brings to the attention."""
        entered = modulate(self.norm1(x), vectors[0], vectors[1])
        return Operands(*(self._split(layer(entered)) for layer in (self.q, self.k, self.v)))

    def leave(
        self, x: Float[Tensor, "b n d"], seen: Float[Tensor, "b n d"], vectors: Vectors
    ) -> Float[Tensor, "b n d"]:
        """The stream after what its tokens saw, and after the feed-forward."""
        _, _, gate1, shift2, scale2, gate2 = vectors
        x = x + gate1 * self.out(seen)
        return x + gate2 * self.ffn(modulate(self.norm2(x), shift2, scale2), TokenPositions()).out

    def _split(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n e"]:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class JointBlock(nn.Module):
    """One linear layer modulates both streams; those of the last block are updated both, too."""

    def __init__(self, width: int, heads: int, *, ratio: float) -> None:
        super().__init__()
        self.modulation = ZeroModulation(width, 12)
        self.image, self.text = (Stream(width, heads, ratio=ratio) for _ in range(2))

    def forward(
        self, x: Float[Tensor, "b n d"], words: Float[Tensor, "b m d"], c: Float[Tensor, "b d"], table: Table | None
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
        """Both streams; `table` turns the tokens [picture; words], None turns none."""
        vectors = self.modulation(c)
        own, other = self.image.operands(x, vectors[:6]), self.text.operands(words, vectors[6:])
        seen = attended(Operands(*(torch.cat(pair, dim=2) for pair in zip(own, other, strict=True))), table)
        image, text = seen.split((x.shape[1], words.shape[1]), dim=1)
        return self.image.leave(x, image, vectors[:6]), self.text.leave(words, text, vectors[6:])


class OneSequenceBlock(nn.Module):
    """The same with one set of weights for all tokens: the single stream that the paper sets out from."""

    def __init__(self, width: int, heads: int, *, ratio: float) -> None:
        super().__init__()
        self.modulation = ZeroModulation(width, 6)
        self.tokens = Stream(width, heads, ratio=ratio)

    def forward(
        self, x: Float[Tensor, "b n d"], words: Float[Tensor, "b m d"], c: Float[Tensor, "b d"], table: Table | None
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b m d"]]:
        """Picture and words, as `JointBlock` answers."""
        vectors, both = self.modulation(c), torch.cat((x, words), dim=1)
        both = self.tokens.leave(both, attended(self.tokens.operands(both, vectors), table), vectors)
        image, text = both.split((x.shape[1], words.shape[1]), dim=1)
        return image, text


BLOCKS: dict[Streams, type[JointBlock] | type[OneSequenceBlock]] = {"dual": JointBlock, "single": OneSequenceBlock}


def attended(given: Operands, table: Table | None) -> Float[Tensor, "b n d"]:
    """Softmax attention of all tokens to all, heads joined, q and k turned by `table` first."""
    q, k = (each if table is None else rotate(each, table) for each in (given.q, given.k))
    return F.scaled_dot_product_attention(q, k, given.v).transpose(1, 2).flatten(2)
