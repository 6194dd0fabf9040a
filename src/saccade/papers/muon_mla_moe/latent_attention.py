"""Latent attention with decoupled rotation (MLA): of each token one latent is kept, and one short key for its place.

    c = norm(h W_D),   k_i = [c W_UK,i | rotate(h W_KR)],   v_i = c W_UV,i,   q_i = [h W_Q,i | rotate(h W_QR,i)]
    out = concat_i softmax(q_i k_i^T / sqrt(d_h + d_R)) v_i W_O

Kept of a token are c and rotate(h W_KR): r + d_R numbers, not 2 n_h d_h. To write on, W_UK goes into the queries and
W_UV behind the mean, q_i W_UK,i^T . c and (A_i c) W_UV,i, so that no key or value of an earlier token is made again.

Source: DeepSeek-AI, DeepSeek-V2 (2024); Mehta et al., "Latent multi-head attention for small language models" (2025).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.attention import grid_rotation, mask_of, per_head
from saccade.nn.part import MixerOutput, TokenPositions
from saccade.nn.positions import rotate
from saccade.nn.registry import mixer

Form = Literal["auto", "expanded", "absorbed"]


class Latents(NamedTuple):
    """What is kept of every token; `turned` has no channels where places are not encoded."""

    content: Float[Tensor, "b m r"]
    turned: Float[Tensor, "b m e"]


class Queries(NamedTuple):
    """By head, for the content and for the place."""

    content: Float[Tensor, "b h n d"]
    turned: Float[Tensor, "b h n e"]


@mixer("latent_attention")
class LatentAttention(nn.Module):
    """Self-attention whose keys and values are made from a latent of each token.

    latent        r, channels of the latent; None: half the width
    rope_dim      d_R, channels of the key that turns, one for all heads; None: half a head's, 0: no places
    query_latent  make queries from a latent of so many channels, too; None: straight from the token
    head_dim      d_h, of each head; None: width / heads
    norm          RMSNorm over latents
    form          "expanded" makes every key and value; "absorbed" attends to latents; "auto" absorbs where it writes on
    Raises ValueError for options out of range.
    """

    remembers = True

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        latent: int | None = None,
        rope_dim: int | None = None,
        query_latent: int | None = None,
        head_dim: int | None = None,
        norm: bool = True,
        form: Form = "auto",
    ) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim or per_head(width, heads)
        self.latent = width // 2 if latent is None else latent
        self.rope_dim = self.head_dim // 4 * 2 if rope_dim is None else rope_dim
        _check(width, self.latent, self.rope_dim, query_latent, form)
        self.form: Form = form
        inner = heads * self.head_dim
        self.down, self.norm = _plain(width, self.latent), _norm(self.latent, norm)
        self.up_key, self.up_value = _plain(self.latent, inner), _plain(self.latent, inner)
        self.query_down = _plain(width, query_latent) if query_latent else None
        self.query_norm = _norm(query_latent, norm) if query_latent else None
        self.query = _plain(query_latent or width, inner)
        self.rope_key = _plain(width, self.rope_dim) if self.rope_dim else None
        self.rope_query = _plain(query_latent or width, heads * self.rope_dim) if self.rope_dim else None
        self.out = _plain(inner, width)

    @property
    def scale(self) -> float:
        """Of products of queries and keys."""
        return (self.head_dim + self.rope_dim) ** -0.5

    @property
    def cache_numbers(self) -> int:
        """Numbers kept of each token."""
        return self.latent + self.rope_dim

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        table = grid_rotation(place, x.shape[1], self.rope_dim).to(x.device) if self.rope_dim else None
        queries, kept = self.queries(x, table), self.latents(x, table)
        if place.memory is not None:
            kept = Latents(*(place.memory.append(name, each) for name, each in kept._asdict().items()))
        absorbs = self.form == "absorbed" or (self.form == "auto" and place.before > 0)
        heads = _by_sequence(self.absorbed if absorbs else self.expanded, queries, kept, place)
        return MixerOutput(self.out(heads.transpose(1, 2).flatten(2)), {})

    def latents(self, x: Float[Tensor, "b n d"], table: Float[Tensor, "2 n e"] | None) -> Latents:
        """What is kept of the tokens x."""
        content = self.norm(self.down(x))
        if self.rope_key is None or table is None:
            return Latents(content, content[..., :0])
        return Latents(content, rotate(self.rope_key(x), table))

    def queries(self, x: Float[Tensor, "b n d"], table: Float[Tensor, "2 n e"] | None) -> Queries:
        """By head."""
        if self.query_down is not None and self.query_norm is not None:
            x = self.query_norm(self.query_down(x))
        content = self._by_head(self.query(x))
        if self.rope_query is None or table is None:
            return Queries(content, content[..., :0])
        return Queries(content, rotate(self._by_head(self.rope_query(x)), table))

    def expanded(self, q: Queries, kept: Latents, place: TokenPositions) -> Float[Tensor, "b h n d"]:
        """Every token's keys and values are made from its latent."""
        turned = kept.turned[:, None].expand(-1, self.heads, -1, -1)
        k = torch.cat((self._by_head(self.up_key(kept.content)), turned), dim=-1)
        tokens = q.content.shape[2]
        mask = mask_of(place, tokens, turned.device)
        whole = place.causal and mask is None and tokens > 1
        v, options = self._by_head(self.up_value(kept.content)), {"is_causal": whole, "scale": self.scale}
        return F.scaled_dot_product_attention(torch.cat(q, dim=-1), k, v, attn_mask=mask, **options)

    def absorbed(self, q: Queries, kept: Latents, place: TokenPositions) -> Float[Tensor, "b h n d"]:
        """The latents are key and value of all heads, whose queries are taken for so many tokens; the same result."""
        up_key, up_value = (layer.weight.unflatten(0, (self.heads, -1)) for layer in (self.up_key, self.up_value))
        to_latents = torch.cat((q.content @ up_key, q.turned), dim=-1).flatten(1, 2)
        operands = (each[:, None] for each in (to_latents, torch.cat(kept, dim=-1), kept.content))
        mask = self._mask_for_all(place, q.content.shape[2], to_latents.device)
        out = F.scaled_dot_product_attention(*operands, attn_mask=mask, scale=self.scale)
        return out[:, 0].unflatten(1, (self.heads, -1)) @ up_value.mT

    def _mask_for_all(self, place: TokenPositions, tokens: int, device: torch.device) -> Tensor | None:
        """The mask of one head, repeated for the tokens of all."""
        mask = mask_of(place, tokens, device)
        if mask is None and place.causal and tokens > 1:
            mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=device).tril()
        return mask if mask is None or mask.shape[2] == 1 else mask.repeat(1, 1, self.heads, 1)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _by_sequence(
    attend: Callable[[Queries, Latents, TokenPositions], Tensor], q: Queries, kept: Latents, place: TokenPositions
) -> Tensor:
    """Within each row, or each of the packed sequences."""
    if place.lengths is None:
        return attend(q, kept, place)
    alone = replace(place, lengths=None)
    parts = zip(*(each.split(place.lengths, dim=-2) for each in (*q, *kept)), strict=True)
    return torch.cat([attend(Queries(*part[:2]), Latents(*part[2:]), alone) for part in parts], dim=2)


def _plain(into: int, out: int) -> nn.Linear:
    return nn.Linear(into, out, bias=False)


def _norm(channels: int, there: bool) -> nn.Module:
    return nn.RMSNorm(channels, eps=1e-6) if there else nn.Identity()


def _check(width: int, latent: int, rope_dim: int, query_latent: int | None, form: str) -> None:
    for name, value in (("latent", latent), ("query_latent", query_latent)):
        if value is not None and not 1 <= value <= width:
            raise ValueError(f"{name}={value} must be between 1 and width={width}; more would compress nothing")
    if rope_dim < 0 or rope_dim % 2:
        raise ValueError(f"rope_dim={rope_dim} must be even and at least 0; channels turn in pairs")
    if form not in get_args(Form):
        raise ValueError(f"form='{form}' must be one of {', '.join(get_args(Form))}")
