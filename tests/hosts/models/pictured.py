"""Tiny language models that read pictures and videos, of more kin than `tests.hosts.transformers.pictured` has."""

from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from tests.hosts.host import Host
from tests.hosts.transformers.pictured import END, IMAGE, START, VIDEO, sentence
from tests.hosts.transformers.texts import SHARED, Made

QWEN: dict[str, Any] = {
    "depth": 1, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip
QWEN2_5 = {**QWEN, "hidden_size": 16, "intermediate_size": 16, "out_hidden_size": 32, "window_size": 16}
QWEN3 = {**QWEN, "hidden_size": 16, "intermediate_size": 16, "out_hidden_size": 32, "num_position_embeddings": 16}
TURNED = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
SPECIAL = {
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": START, "vision_end_token_id": END,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
CLIP: dict[str, Any] = {
    "model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "image_size": 16, "patch_size": 4,
}  # fmt: skip
SIGLIP = {**CLIP, "model_type": "siglip_vision_model", "vision_use_head": False}
LLAMA = {"model_type": "llama", **SHARED}


def _made(name: str, **config: Any) -> Any:
    library = import_module("transformers")
    return getattr(library, f"{name}ForConditionalGeneration")(getattr(library, f"{name}Config")(**config))


def qwen(name: str, vision: dict[str, Any], more: dict[str, Any]) -> Made:
    """A picture of 2 x 3 tokens and a video of two frames of 1 x 2, apart where the kin says when each is."""
    text = {**SHARED, "rope_parameters": TURNED, **more}
    frames = (-2, 1, -2) if name.startswith("Qwen3") else (-4,)
    ids = sentence(3, -6, 2, *frames, 2)
    runs = ids[0] == IMAGE
    runs[10:] = False
    ids = torch.where((ids == IMAGE) & ~runs, VIDEO, ids)
    patches = {"pixel_values": 24, "pixel_values_videos": 16}
    sizes = {"image_grid_thw": (1, 4, 6), "video_grid_thw": (2, 2, 4)}
    return _made(name, text_config=text, vision_config=vision, **SPECIAL), {
        "input_ids": ids,
        "attention_mask": _padded(ids),
        "mm_token_type_ids": (ids == IMAGE).int() + 2 * (ids == VIDEO).int(),
        **{key: torch.randn(2 * n, 3 * 2 * 4 * 4) for key, n in patches.items()},
        **{key: torch.tensor([grid, grid]) for key, grid in sizes.items()},
        "use_cache": False,
        "return_dict": False,
    }


def _padded(ids: Tensor) -> Tensor:
    """The last word of the second row is padding."""
    mask = torch.ones_like(ids)
    mask[1, -1] = 0
    return mask


def square(name: str, config: dict[str, Any]) -> Made:
    """One picture of 4 x 4 tokens among words; joined from four times as many patches, save PaliGemma's."""
    side = 16 if name == "PaliGemma" else 32
    ids = sentence(3, -16, 2)
    more = {"token_type_ids": (ids == IMAGE).int()} if name in ("Gemma3", "PaliGemma") else {}
    return _made(name, **config), {
        "input_ids": ids, "attention_mask": _padded(ids), "pixel_values": torch.randn(2, 3, side, side), **more,
        "use_cache": False, "return_dict": False,
    }  # fmt: skip


def anyres(name: str, config: dict[str, Any]) -> Made:
    """One picture of 24 x 16 pixels, small and as two tiles."""
    given = {"image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]], "image_token_index": IMAGE, "text_config": LLAMA}
    ids = sentence(3, -46, 2)
    return _made(name, **given, **config), {
        "input_ids": ids, "attention_mask": _padded(ids), "pixel_values": torch.randn(2, 3, 3, 16, 16),
        "image_sizes": torch.tensor([[24, 16]] * 2), "use_cache": False, "return_dict": False,
    }  # fmt: skip


GEMMA = {"model_type": "gemma3_text", **SHARED, "head_dim": 8, "sliding_window": 4}
SQUARES: dict[str, dict[str, Any]] = {
    "Gemma3": {
        "text_config": {**GEMMA, "layer_types": ["full_attention", "sliding_attention"]},
        "vision_config": {**SIGLIP, "image_size": 32},
        "mm_tokens_per_image": 16, "image_token_index": IMAGE, "boi_token_index": START, "eoi_token_index": END,
    },
    "PaliGemma": {
        "text_config": {"model_type": "gemma", **SHARED, "head_dim": 8}, "vision_config": SIGLIP,
        "projection_dim": 32, "image_token_index": IMAGE,
    },
    "InternVL": {
        "text_config": LLAMA, "image_token_id": IMAGE, "image_seq_length": 16, "downsample_ratio": 0.5,
        "vision_config": {**CLIP, "model_type": "internvl_vision", "image_size": [32, 32], "patch_size": [4, 4]},
    },
}  # fmt: skip
TWICE = "text 4 | image 16 (1x4x4) | image2 30 (1x6x5) | text2 3"
HOSTS = (
    Host("qwen2_5_vl", partial(qwen, "Qwen2_5_VL", QWEN2_5, {}),
         "text 4 | image 6 (1x2x3) | text2 4 | video 4 (2x1x2) | text3 3"),
    *(Host(name.lower(), partial(qwen, name, QWEN3, more),
           "text 4 | image 6 (1x2x3) | text2 4 | video 2 (1x1x2) | text3 3 | video2 2 (1x1x2) | text4 3")
      for name, more in (("Qwen3VL", {"head_dim": 8}), ("Qwen3VLMoe", EXPERTS))),
    *(Host(f"{name.lower()}_pictured", partial(square, name, config), "text 4 | image 16 (1x4x4) | text2 3")
      for name, config in SQUARES.items()),
    Host("llavanext", partial(anyres, "LlavaNext", {"vision_config": CLIP}), TWICE),
    Host("llavaonevision", partial(anyres, "LlavaOnevision", {"vision_config": SIGLIP}),
         TWICE),
)  # fmt: skip
