"""Softmax self-attention as a mixer."""

from typing import no_type_check

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.part import AttentionTrace, MixerOutput, TokenPositions
from saccade.nn.positions import grid_places, rotary_table, rotate, split_channels
from saccade.nn.registry import mixer


@mixer("attention")
class SelfAttention(nn.Module):
    """Every token looks at every token it may see.

    head_dim   of each head; None: width / heads
    qk_norm    LayerNorm over each head's q and k
    rotary     turn q and k by their place on the grid
    return_trace  hand q, k, v and the heads' outputs to the feed-forward of the same block
    bf16       attend in bfloat16 whatever the rest runs in, as some released code does
    bias       of the four projections
    """

    remembers = True

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        head_dim: int | None = None,
        qk_norm: bool = False,
        rotary: bool = False,
        return_trace: bool = False,
        bf16: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim or per_head(width, heads)
        self.rotary, self.return_trace, self.bf16 = rotary, return_trace, bf16
        self.qkv = nn.Linear(width, 3 * heads * self.head_dim, bias=bias)
        self.out = nn.Linear(heads * self.head_dim, width, bias=bias)
        norms = (nn.LayerNorm(self.head_dim, eps=1e-6) if qk_norm else nn.Identity() for _ in range(2))
        self.norm_q, self.norm_k = norms

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        seen = self.heads_of(x, place)
        return MixerOutput(self.out(seen.out.transpose(1, 2).flatten(2)), {}, seen if self.return_trace else None)

    def heads_of(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> AttentionTrace:
        """q, k, v and output of every head."""
        q, k, v = self.operands(x, place)
        if place.memory is not None:
            k, v = place.memory.append("k", k), place.memory.append("v", v)
        if self.bf16:
            out = self.attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), place).to(v.dtype)
        else:
            out = self.attend(q, k, v, place)
        return AttentionTrace(q, k, v, out, self.out)

    def operands(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> tuple[Float[Tensor, "b h n e"], ...]:
        """q, k and v, normalised and turned."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        q, k = self.norm_q(q), self.norm_k(k)
        if self.rotary:
            table = grid_rotation(place, x.shape[1], self.head_dim).to(x.device)
            q, k = rotate(q, table), rotate(k, table)
        return q, k, v

    @no_type_check  # run-time shape checks would wrap the code in which the call of attention is found
    def attend(
        self,
        q: Float[Tensor, "b h n e"],
        k: Float[Tensor, "b h n e"],
        v: Float[Tensor, "b h n e"],
        place: TokenPositions,
    ) -> Float[Tensor, "b h n e"]:
        """Softmax attention within each sequence: rows, or the packed sequences of `place.lengths`."""
        if place.lengths is not None:
            parts = zip(*(x.split(place.lengths, dim=2) for x in (q, k, v)), strict=True)
            return torch.cat([F.scaled_dot_product_attention(*part, is_causal=place.causal) for part in parts], dim=2)
        mask = mask_of(place, q.shape[2], q.device)
        whole = place.causal and mask is None and q.shape[2] > 1
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=whole)


def mask_of(place: TokenPositions, tokens: int, device: torch.device) -> Bool[Tensor, "#b 1 #n m"] | None:
    """Which keys, those of `place.memory` among them, each of the newest tokens may see.

    None where a kernel's own causal rule, or none, says the same.
    """
    keep = place.keep
    if keep is not None and place.memory is not None:
        keep = place.memory.append("keep", keep, dim=-1)
    mask = None if keep is None else keep[:, None, None]
    if place.causal and tokens > 1 and (mask is not None or place.before):
        causal = torch.ones(tokens, place.before + tokens, dtype=torch.bool, device=device).tril(place.before)
        mask = causal[None, None] if mask is None else mask & causal
    return mask


def grid_rotation(place: TokenPositions, tokens: int, head_dim: int) -> Float[Tensor, "2 n e"]:
    """The rotation of every token: by its place, or by that of its cell of the grid or of a plain sequence."""
    places = place.places
    if places is None:
        places = grid_places(place.grid) if place.grid else grid_places((tokens,), start=(place.before,))
    return rotary_table(places, split_channels(head_dim, places.shape[-1]))


def per_head(width: int, heads: int) -> int:
    """Channels of each head.

    Raises ValueError where they do not come out even.
    """
    if heads < 1 or width % heads:
        raise ValueError(f"width={width} must be a multiple of heads={heads}, or give head_dim")
    return width // heads
