"""The ablated alternatives: the image asks the layout alone ("adapter"), or all three share one softmax ("m3").

adapter   x <- x + Z attention(q of the block, keys and values of the layout tokens, the same in every block)
m3        one attention of image, text and layout; the layout has projections, norm and feed-forward of its own
"""

from typing import Any

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.normalization import AdaLayerNormZeroSingle
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.papers.siamlayout.branches import Around, Branched, layout_norm, updated, zero_linear

TEXT_SIDE = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
ONE_STREAM = ("to_q", "to_k", "to_v")


class CrossBranch(nn.Module):
    """Of a block with two streams or one: its own queries ask keys and values of the layout."""

    def __init__(self, dim: int, *, single: bool) -> None:
        super().__init__()
        self.single = single
        self.to_k, self.to_v, self.out = nn.Linear(dim, dim), nn.Linear(dim, dim), zero_linear(dim)

    def forward(self, image: Float[Tensor, "b n d"], layout: Float[Tensor, "b m d"], around: Around) -> Branched:
        """From modulated image tokens, or those that enter a block with one stream."""
        block, keep = around.block, around.keep
        normed = block.norm(image, emb=around.temb)[0] if self.single else image
        q, k, v = (x.unflatten(-1, (block.attn.heads, -1)) for x in (block.attn.to_q(normed), *self._pair(layout)))
        for name in ("norm_q", "norm_k"):
            if (norm := getattr(block.attn, name, None)) is not None:
                q, k = (norm(q), k) if name == "norm_q" else (q, norm(k))
        mask = None if keep is None else keep[:, None, None]
        out = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=mask)
        return self.out(out.transpose(1, 2).flatten(2)), layout

    def _pair(self, layout: Tensor) -> tuple[Tensor, Tensor]:
        return self.to_k(layout), self.to_v(layout)

    @torch.no_grad()
    def copy_(self, block: Any) -> None:
        """Begin with the block's keys and values of text."""
        names = ONE_STREAM if self.single else TEXT_SIDE
        self.to_k.load_state_dict(getattr(block.attn, names[1]).state_dict())
        self.to_v.load_state_dict(getattr(block.attn, names[2]).state_dict())


class SharedDouble(nn.Module):
    """What the layout brings into the attention of a block with two streams."""

    projections = TEXT_SIDE

    def __init__(self, dim: int, *, updates: bool = True) -> None:
        super().__init__()
        self.norm = layout_norm(dim, updates)
        self.linear = nn.ModuleDict({name: nn.Linear(dim, dim) for name in TEXT_SIDE[: 4 if updates else 3]})
        self.ff = FeedForward(dim=dim, dim_out=dim, activation_fn="gelu-approximate") if updates else None

    def enter(self, layout: Tensor, temb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Modulated tokens, and the gates to come."""
        if self.ff is None:
            return self.norm(layout, temb), []
        normed, *gates = self.norm(layout, emb=temb)
        return normed, gates

    def leave(self, layout: Tensor, normed: Tensor, seen: Tensor, gates: list[Tensor]) -> Tensor:
        """The layout after the block."""
        return layout if self.ff is None else updated(layout, seen, gates, self.ff)

    @torch.no_grad()
    def copy_(self, block: Any) -> None:
        """Begin with the block's weights of text."""
        _copy_linears_(self.linear, block)
        self.norm.load_state_dict(block.norm1_context.state_dict())
        if self.ff is not None:
            self.ff.load_state_dict(block.ff_context.state_dict())


class SharedSingle(nn.Module):
    """What it brings into that of a block with one stream."""

    projections = ONE_STREAM

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = AdaLayerNormZeroSingle(dim)
        self.linear = nn.ModuleDict({name: nn.Linear(dim, dim) for name in ONE_STREAM})
        self.proj_mlp, self.proj_out = nn.Linear(dim, 4 * dim), nn.Linear(5 * dim, dim)

    def enter(self, layout: Tensor, temb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Modulated tokens, and the gate to come."""
        normed, gate = self.norm(layout, emb=temb)
        return normed, [gate]

    def leave(self, layout: Tensor, normed: Tensor, seen: Tensor, gates: list[Tensor]) -> Tensor:
        """The layout after the block."""
        mlp = F.gelu(self.proj_mlp(normed), approximate="tanh")
        return layout + gates[0][:, None] * self.proj_out(torch.cat((seen, mlp), dim=2))

    @torch.no_grad()
    def copy_(self, block: Any) -> None:
        """Begin with the block's weights."""
        _copy_linears_(self.linear, block)
        for name in ("norm", "proj_mlp", "proj_out"):
            self.get_submodule(name).load_state_dict(block.get_submodule(name).state_dict())


def _copy_linears_(own: nn.ModuleDict, block: Any) -> None:
    for name, linear in own.items():
        linear.load_state_dict(getattr(block.attn, name).state_dict())
