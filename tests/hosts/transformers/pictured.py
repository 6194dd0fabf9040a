"""Tiny random models that read pictures, of the real classes, and inputs for one forward of each."""

from typing import Any

import torch
from torch import Tensor

from tests.hosts.transformers.texts import SHARED, Made

IMAGE, VIDEO, START, END = 36, 37, 38, 39


def sentence(*parts: int, rows: int = 2) -> Tensor:
    """Rows of ids: a positive number is so many random words, a negative one so many picture tokens between marks."""
    found = []
    for n in parts:
        words = torch.randint(1, IMAGE, (rows, max(n, 0)))
        picture = torch.tensor([[START, *[IMAGE] * -n, END]] * rows)
        found.append(words if n > 0 else picture)
    return torch.cat(found, dim=1)


def qwen2_vl() -> Made:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    text = {**SHARED, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
    vision: dict[str, Any] = {
        "depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4,
        "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    config = Qwen2VLConfig(
        text_config=text, vision_config=vision, image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=START,
        vision_end_token_id=END,
    )  # fmt: skip
    return Qwen2VLForConditionalGeneration(config), qwen2_vl_inputs((1, 6, 8))


def qwen2_vl_inputs(*grids: tuple[int, int, int]) -> dict[str, Any]:
    """Three words, then pictures of these sizes in patches, two words after each."""
    patches = sum(t * h * w for t, h, w in grids)
    parts = [n for t, h, w in grids for n in (-t * h * w // 4, 2)]
    ids = sentence(3, *parts)
    return {
        "input_ids": ids,
        "pixel_values": torch.randn(2 * patches, 3 * 2 * 4 * 4),
        "image_grid_thw": torch.tensor([*grids, *grids]),
        "mm_token_type_ids": (ids == IMAGE).int(),
        "use_cache": False,
        "return_dict": False,
    }


def llava() -> Made:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4
    )
    config = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**SHARED), image_token_index=IMAGE)
    return LlavaForConditionalGeneration(config), {
        "input_ids": sentence(3, -16, 2),
        "pixel_values": torch.randn(2, 3, 16, 16),
        "use_cache": False,
        "return_dict": False,
    }


MAKERS = (llava, qwen2_vl)
