"""Tiny random pipelines around U-Nets, which read a few words."""

from typing import Any

import torch
from diffusers import (
    AnimateDiffPipeline,
    DDIMScheduler,
    MotionAdapter,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from saccade.models.scene_words import BEGIN, END, MAX_CLIP, PAD, clip_tokenizer, word_ids
from saccade.models.scenes_flux import ScenesFlux
from tests.hosts.models.unets import BOTH

SIZES = ScenesFlux(text_dim=32, text_heads=2, t5_layers=1, autoencoder_widths=(8, 8, 8), groups=4)
TEXT = CLIPTextConfig(
    vocab_size=len(word_ids()), hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=MAX_CLIP, pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END, projection_dim=32,
)  # fmt: skip
XL: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2), "use_linear_projection": True, "cross_attention_dim": 64,
    "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 80,
}  # fmt: skip

BARE: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def _parts(**options: Any) -> dict[str, Any]:
    return {
        "vae": SIZES.autoencoder(), "text_encoder": CLIPTextModel(TEXT), "tokenizer": clip_tokenizer(),
        "unet": UNet2DConditionModel(**{**BOTH, "cross_attention_dim": 32, **options}).eval(),
        "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1),
    }  # fmt: skip


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sd() -> Any:
    """Stable Diffusion on 8 x 8 latents."""
    torch.manual_seed(0)
    return _quiet(StableDiffusionPipeline(**_parts(), **BARE))


def sdxl() -> Any:
    """Stable Diffusion XL, whose first block attends nowhere."""
    torch.manual_seed(0)
    second = CLIPTextModelWithProjection(TEXT)
    more: dict[str, Any] = {"text_encoder_2": second, "tokenizer_2": clip_tokenizer(), "add_watermarker": False}
    return _quiet(StableDiffusionXLPipeline(**_parts(**XL), **more))


def gligen() -> Any:
    """Stable Diffusion with gates."""
    from diffusers import StableDiffusionGLIGENPipeline

    torch.manual_seed(0)
    return _quiet(StableDiffusionGLIGENPipeline(**_parts(attention_type="gated"), **BARE))


def animatediff() -> Any:
    """Stable Diffusion with motion modules."""
    torch.manual_seed(0)
    motion = MotionAdapter(
        block_out_channels=(16, 32), motion_layers_per_block=1, motion_num_attention_heads=2, motion_norm_num_groups=4,
        motion_max_seq_length=8,
    )  # fmt: skip
    return _quiet(AnimateDiffPipeline(**_parts(), motion_adapter=motion))
