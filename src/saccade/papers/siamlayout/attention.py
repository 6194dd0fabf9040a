"""Attention between the image and the layout: both streams ask, and both are asked, in one softmax."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

Rotary = tuple[Tensor, Tensor]  # cosines and sines (n c)
Apply = Callable[[str, Tensor], Tensor]  # a projection or norm by its name
NORMS = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")


class TwoStreamAttention(nn.Module):
    """Projections of both streams, under the names of diffusers.

    updates  whether the layout gets an output
    """

    def __init__(self, dim: int, heads: int, *, qk_norm: bool, updates: bool = True) -> None:
        super().__init__()
        self.heads, self.updates = heads, updates
        for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"):
            self.add_module(name, nn.Linear(dim, dim))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.to_add_out = nn.Linear(dim, dim) if updates else None
        for name in NORMS:
            self.add_module(name, nn.RMSNorm(dim // heads, eps=1e-6) if qk_norm else nn.Identity())

    def forward(
        self,
        image: Float[Tensor, "b n d"],
        layout: Float[Tensor, "b m d"],
        rotary: Rotary | None = None,
        keep: Bool[Tensor, "b m"] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The outputs of both streams, None for a layout without one."""
        return two_streams(self._projected, image, layout, self.heads, rotary=rotary, keep=keep, updates=self.updates)

    def _projected(self, name: str, x: Tensor) -> Tensor:
        return self.get_submodule(name)(x)


def two_streams(
    apply: Apply,
    image: Float[Tensor, "b n d"],
    layout: Float[Tensor, "b m d"],
    heads: int,
    *,
    rotary: Rotary | None = None,
    keep: Bool[Tensor, "b m"] | None = None,
    updates: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """The outputs of image and layout.

    apply   projections and norms by name
    rotary  tables of the image's tokens, then of the layout's
    keep    layout tokens that are keys; None for all
    """
    q, k, v = (_heads(apply, name, image, layout, heads) for name in "qkv")
    n = image.shape[1]
    out = attended(q, k, v, n, rotary, keep)
    return apply("to_out.0", out[:, :n]), apply("to_add_out", out[:, n:]) if updates else None


def attended(
    q: Float[Tensor, "b n h c"],
    k: Float[Tensor, "b n h c"],
    v: Float[Tensor, "b n h c"],
    image: int,
    rotary: Rotary | None,
    keep: Bool[Tensor, "b m"] | None,
) -> Float[Tensor, "b n d"]:
    """Of all tokens to one another; `keep` says which of those behind the first `image` are keys."""
    if rotary is not None:
        q, k = (_turned(x, rotary) for x in (q, k))
    mask = None if keep is None else F.pad(keep, (image, 0), value=True)[:, None, None]
    out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=mask)
    return out.transpose(1, 2).flatten(2).to(v.dtype)


def _turned(x: Float[Tensor, "b n h c"], table: Any) -> Float[Tensor, "b n h c"]:
    found: Any = apply_rotary_emb(x, table, sequence_dim=1)
    return found


def _heads(apply: Apply, letter: str, image: Tensor, layout: Tensor, heads: int) -> Float[Tensor, "b n h c"]:
    """Queries, keys or values of both streams, one after the other."""
    parts = [
        apply(name, x).unflatten(-1, (heads, -1))
        for name, x in ((f"to_{letter}", image), (f"add_{letter}_proj", layout))
    ]
    if letter != "v":
        parts = [apply(name, x) for name, x in zip((f"norm_{letter}", f"norm_added_{letter}"), parts, strict=True)]
    return torch.cat(parts, dim=1)
