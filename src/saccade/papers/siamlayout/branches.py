"""The second branch of a block, with weights of its own: image and layout attend to one another, apart from the text.

    added = Z s_x,   e <- e + gate s_e,   e <- e + gate' MLP(LN(e))       (s_x, s_e) = attention(x, LN(e))

`Z` is zero at first. What is added to the image is not multiplied by the block's gate.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.normalization import AdaLayerNormContinuous, AdaLayerNormZero, AdaLayerNormZeroSingle
from jaxtyping import Bool, Float
from torch import Tensor, nn

from saccade.papers.siamlayout.attention import NORMS, Rotary, TwoStreamAttention, attended

Branched = tuple[Tensor, Tensor]  # what is added to the image (b n d), and the layout (b m d)


@dataclass(frozen=True, kw_only=True, eq=False)
class Around:
    """What a branch is given beside the tokens.

    block   the host's own
    temb    its conditioning (b d)
    rotary  tables of the image's tokens, then of the layout's; None where the host has none
    keep    layout tokens that are keys; None for all
    """

    block: Any
    temb: Float[Tensor, "b d"]
    rotary: Rotary | None = None
    keep: Bool[Tensor, "b m"] | None = None


def zero_linear(dim: int) -> nn.Linear:
    """A projection whose weight and bias are zero."""
    made = nn.Linear(dim, dim)
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)
    return made


class DoubleBranch(nn.Module):
    """Of a block with two streams.

    updates  False in the last block of SD3, where the layout is not needed any more
    """

    def __init__(self, dim: int, heads: int, *, qk_norm: bool, updates: bool = True) -> None:
        super().__init__()
        self.norm = layout_norm(dim, updates)
        self.attn = TwoStreamAttention(dim, heads, qk_norm=qk_norm, updates=updates)
        self.ff = FeedForward(dim=dim, dim_out=dim, activation_fn="gelu-approximate") if updates else None
        self.out = zero_linear(dim)

    def forward(self, normed: Float[Tensor, "b n d"], layout: Float[Tensor, "b m d"], around: Around) -> Branched:
        """From the modulated image tokens that the block's own attention gets too."""
        if self.ff is None:
            image, _ = self.attn(normed, self.norm(layout, around.temb), around.rotary, around.keep)
            return self.out(image), layout
        own, *gates = self.norm(layout, emb=around.temb)
        image, seen = self.attn(normed, own, around.rotary, around.keep)
        return self.out(image), updated(layout, seen, gates, self.ff)

    @torch.no_grad()
    def copy_(self, block: Any) -> None:
        """Begin with the block's weights, those of its text for the layout."""
        copy_projections_(self.attn, block.attn)
        self.norm.load_state_dict(block.norm1_context.state_dict())
        if self.ff is not None:
            self.ff.load_state_dict(block.ff_context.state_dict())


class SingleBranch(nn.Module):
    """Of a block with one stream: a copy of it, on the layout and the image as they enter the block."""

    def __init__(self, dim: int, heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.norm = AdaLayerNormZeroSingle(dim)
        self.attn = OneStreamAttention(dim, heads, qk_norm=qk_norm)
        self.proj_mlp = nn.Linear(dim, 4 * dim)
        self.act_mlp = nn.GELU(approximate="tanh")
        self.proj_out = nn.Linear(5 * dim, dim)
        self.out = zero_linear(dim)

    def forward(self, image: Float[Tensor, "b n d"], layout: Float[Tensor, "b m d"], around: Around) -> Branched:
        """From the image's tokens as they enter the block."""
        n = image.shape[1]
        normed, gate = self.norm(torch.cat((image, layout), dim=1), emb=around.temb)
        seen = self.attn(normed, n, around.rotary, around.keep)
        out = gate[:, None] * self.proj_out(torch.cat((seen, self.act_mlp(self.proj_mlp(normed))), dim=2))
        return self.out(out[:, :n]), layout + out[:, n:]

    @torch.no_grad()
    def copy_(self, block: Any) -> None:
        """Begin with the block's weights."""
        for name in ("norm", "proj_mlp", "proj_out"):
            self.get_submodule(name).load_state_dict(block.get_submodule(name).state_dict())
        copy_projections_(self.attn, block.attn)


class OneStreamAttention(nn.Module):
    """Of a sequence to itself, without an output projection."""

    def __init__(self, dim: int, heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        for name in ("to_q", "to_k", "to_v"):
            self.add_module(name, nn.Linear(dim, dim))
        for name in NORMS[:2]:
            self.add_module(name, nn.RMSNorm(dim // heads, eps=1e-6) if qk_norm else nn.Identity())

    def forward(
        self, x: Float[Tensor, "b n d"], image: int, rotary: Rotary | None, keep: Bool[Tensor, "b m"] | None
    ) -> Float[Tensor, "b n d"]:
        """`keep`: which of the tokens behind the first `image` are keys."""
        q, k, v = (self.get_submodule(f"to_{name}")(x).unflatten(-1, (self.heads, -1)) for name in "qkv")
        return attended(self.get_submodule("norm_q")(q), self.get_submodule("norm_k")(k), v, image, rotary, keep)


def layout_norm(dim: int, updates: bool) -> nn.Module:
    """The norm of a layout that is updated, with gates, or of one that is not."""
    if updates:
        return AdaLayerNormZero(dim)
    return AdaLayerNormContinuous(dim, dim, elementwise_affine=False, eps=1e-6)


def updated(layout: Tensor, seen: Tensor, gates: list[Tensor], ff: Callable[[Tensor], Tensor]) -> Tensor:
    """The layout after its attention and its feed-forward, by gate, shift, scale and gate of adaLN-Zero."""
    gate, shift, scale, gate_mlp = (x[:, None] for x in gates)
    layout = layout + gate * seen
    normed = nn.functional.layer_norm(layout, layout.shape[-1:], eps=1e-6)
    return layout + gate_mlp * ff(normed * (1 + scale) + shift)


def copy_projections_(own: nn.Module, theirs: Any) -> None:
    """Take over projections and norms that both have, by name."""
    known = theirs.state_dict()
    own.load_state_dict({name: known[name] for name in own.state_dict()})
