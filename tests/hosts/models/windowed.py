"""Tiny transformers of timm that attend in windows: every window is a batch row."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host
from tests.hosts.vits import library


def swin() -> tuple[nn.Module, dict[str, Any]]:
    """Windows of 4 x 2 on 8 x 8 patches, every other block shifted, so that the host masks pairs.

    timm leaves the call of Swin off until it is asked for.
    """
    model = library().create_model(
        "swin_tiny_patch4_window7_224", img_size=32, embed_dim=16, depths=(2, 2), num_heads=(2, 2), num_classes=5,
        window_size=(4, 2),
    )  # fmt: skip
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = True
    return model, {"x": torch.randn(2, 3, 32, 32)}


def maxvit() -> tuple[nn.Module, dict[str, Any]]:
    """Blocks of neighbours and grids of tokens that stand apart, 2 x 4 of 8 x 8, then of 4 x 4."""
    model = library().create_model(
        "maxvit_rmlp_pico_rw_256", img_size=32, embed_dim=(16, 16), depths=(1, 1), block_type=("M", "M"),
        num_classes=5, stem_width=8, transformer_dim_head=8, transformer_window_size=(2, 4),
        transformer_grid_size=(2, 4),
    )  # fmt: skip
    return model, {"x": torch.randn(2, 3, 32, 32)}


HOSTS = (Host("swin", swin, "image 8 (1x4x2)"), Host("maxvit", maxvit, "image 8 (1x2x4)"))
