"""Trained models with full attention as starts for proxies and windows.

The old self-attention becomes that of the windows, and what is new is closed by zeros: a converted model is the old one
with plain window attention, until it learns.
"""

from math import isqrt
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.models.pt_dit import LAYERS, PTDiT
from saccade.nn.part import Place
from saccade.nn.proxy_attention import ProxyMixer
from saccade.nn.windows import Sizes


def from_pixart(pixart: Any, *, window: Sizes, **changes: Any) -> PTDiT:
    """A `PTDiT` from a diffusers `PixArtTransformer2DModel`; times keep PixArt's scale, 0 to 999.

    Raises ValueError for weights that it has no place for.
    """
    told = pixart.config
    given = dict(
        depth=told.num_layers, heads=told.num_attention_heads, width=pixart.inner_dim, patch=told.patch_size,
        side=told.sample_size, channels=told.in_channels, captions=told.caption_channels or pixart.inner_dim,
        learned_variance=pixart.out_channels == 2 * told.in_channels, sized=pixart.use_additional_conditions,
        window=window, positions="picture", time_scale=1.0,
    )  # fmt: skip
    model = PTDiT(**given | changes)
    report = model.load_official(pixart.state_dict())
    fresh = ("positions", *(f"blocks.{i}.{part}" for i in range(told.num_layers) for part in ("proxies.", "far")))
    lacking = [name for name in report.missing if not name.startswith(fresh)]
    if lacking or report.unexpected or report.mismatched:
        wrong = ", ".join((*lacking, *report.unexpected, *report.mismatched)[:4])
        raise ValueError(f"this PixArt is not built as PT-DiT is: one of them has no {wrong} of the other's shape")
    return model


class MixedInPlace(nn.Module):
    """A `ProxyMixer` that answers as a diffusers attention module does."""

    def __init__(self, attention: Any, window: Sizes, grid: Sizes | None, **options: Any) -> None:
        super().__init__()
        self.grid, self.mixer = grid, ProxyMixer(attention.query_dim, attention.heads, window=window, **options)
        theirs = attention.state_dict()
        if self.mixer.near is not None:
            ours = {f"{a}.{part}": theirs[f"{b}.{part}"] for a, b in LAYERS.items() for part in ("weight", "bias")}
            self.mixer.near.attention.load_state_dict(ours)
        self.to(next(attention.parameters()))

    def forward(self, hidden_states: Float[Tensor, "b n d"], *_: Any, **__: Any) -> Float[Tensor, "b n d"]:
        side = isqrt(hidden_states.shape[1])
        return self.mixer(hidden_states, Place(grid=self.grid or (side, side))).out


@torch.no_grad()
def mix_by_proxies(model: nn.Module, *, window: Sizes, grid: Sizes | None = None, **options: Any) -> None:
    """Put a `ProxyMixer` in the place of every self-attention `attn1` of a diffusers DiT or PixArt; in place.

    `grid`: (height, width) in tokens where pictures are not square. `options`: of the mixer.
    """
    blocks: Any = getattr(model, "transformer_blocks", None)
    if blocks is None or any(not hasattr(block, "attn1") for block in blocks):
        raise ValueError(f"{type(model).__name__} has no transformer_blocks with an attn1 to replace")
    for block in blocks:
        block.attn1 = MixedInPlace(block.attn1, window, grid, **options)
