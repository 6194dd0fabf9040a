"""Tiny U-Nets, whose attention stands on several grids."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host

SMALL: dict[str, Any] = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (16, 32),
    "norm_num_groups": 4, "cross_attention_dim": 8, "attention_head_dim": 2,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip


def unet(**options: Any) -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**{**SMALL, **options}), {
        "sample": torch.randn(2, 4, 8, 4),
        "encoder_hidden_states": torch.randn(2, 3, 8),
        "encoder_attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "timestep": 500,
        "return_dict": False,
    }


def gligen() -> tuple[nn.Module, dict[str, Any]]:
    model, inputs = unet(attention_type="gated")
    boxes = {"boxes": torch.rand(2, 5, 4), "positive_embeddings": torch.randn(2, 5, 8), "masks": torch.ones(2, 5)}
    return model, {**inputs, "cross_attention_kwargs": {"gligen": boxes}}


HOSTS = (Host("unet", unet, "image 32 (1x8x4)"), Host("gligen", gligen, "image 32 (1x8x4)"))
