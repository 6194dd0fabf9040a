"""A FLUX of random weights at a chosen size: what interception costs can be measured on it without a checkpoint."""

from typing import Any

import torch
from torch import nn


def flux(
    *, text: int, height: int, width: int, heads: int, layers: int, singles: int | None = None, channels: int = 16
) -> tuple[nn.Module, dict[str, Any]]:
    """A FLUX of `layers` double and as many (or `singles`) single blocks, and the inputs of one forward.

    channels  of each head, a multiple of 8
    """
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    torch.manual_seed(0)
    model = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=layers, num_single_layers=layers if singles is None else singles,
        attention_head_dim=channels, num_attention_heads=heads, joint_attention_dim=64, pooled_projection_dim=64,
        axes_dims_rope=(channels // 4, channels * 3 // 8, channels * 3 // 8),
    )  # fmt: skip
    ids = torch.cartesian_prod(torch.arange(1), torch.arange(height), torch.arange(width)).float()
    return model.eval(), {
        "hidden_states": torch.randn(1, height * width, 16),
        "encoder_hidden_states": torch.randn(1, text, 64),
        "pooled_projections": torch.randn(1, 64),
        "timestep": torch.full((1,), 0.5),
        "img_ids": ids,
        "txt_ids": torch.zeros(text, 3),
        "return_dict": False,
    }
