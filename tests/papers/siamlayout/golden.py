"""The released SD3 code's weights, inputs and outputs at a tiny size."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from safetensors.torch import load_file
from torch import Tensor

from saccade.papers.siamlayout import LayoutAdapter, LayoutBatch

FILE = Path(__file__).parents[2] / "goldens" / "siamlayout" / "case_sd3.safetensors"


@cache
def stored() -> dict[str, Tensor]:
    """Everything, in single precision."""
    return {name: value.float() for name, value in load_file(FILE).items()}


def weights() -> dict[str, Tensor]:
    """Under the released names: base and layout in one."""
    return {name.removeprefix("w/"): value for name, value in stored().items() if name.startswith("w/")}


def models() -> tuple[Any, LayoutAdapter]:
    """Base and adapter with the released weights."""
    base = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8,
        num_attention_heads=2, joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=14,
        pos_embed_max_size=8,
    )  # fmt: skip
    adapter = LayoutAdapter.of(base)
    base.load_state_dict(adapter.load_official(weights()))
    return base.eval(), adapter.eval()


def layout() -> LayoutBatch:
    """Three boxes, and one."""
    found = stored()
    return LayoutBatch(boxes=found["in/boxes"], mask=found["in/mask"].bool(), text=found["in/region_text"])


def inputs() -> dict[str, Any]:
    """Of one forward."""
    found = stored()
    return {
        "hidden_states": found["in/x"], "encoder_hidden_states": found["in/text"],
        "pooled_projections": found["in/pooled"], "timestep": found["in/t"], "return_dict": False,
    }  # fmt: skip


def close(one: Tensor, name: str) -> None:
    """Within the released code's own tolerance."""
    torch.testing.assert_close(one, stored()[name], rtol=1e-5, atol=1e-5 * float(stored()[name].abs().max()))
