"""Softmax attention from one sequence to another; a part of blocks, no mixer by itself."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.attention import per_head


class CrossAttention(nn.Module):
    """Tokens look at `source`, or at each other; each of q, k and v has its layer. `key_width`: of `source`."""

    def __init__(self, width: int, heads: int, *, key_width: int | None = None) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, per_head(width, heads)
        self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = nn.Linear(key_width or width, width), nn.Linear(key_width or width, width)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        source: Float[Tensor, "b m k"] | None = None,
        mask: Bool[Tensor, "#b 1 #n m"] | Float[Tensor, "#b 1 #n m"] | None = None,
    ) -> Float[Tensor, "b n d"]:
        seen = x if source is None else source
        q, k, v = (self._split(layer(each)) for layer, each in ((self.q, x), (self.k, seen), (self.v, seen)))
        return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))

    def _split(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b h n e"]:
        return x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2)
