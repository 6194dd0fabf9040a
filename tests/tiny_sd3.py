"""A random StableDiffusion3Pipeline that draws 32 x 32 pixels (16 image tokens) in a moment."""

from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from saccade.models.scene_words import BEGIN, END, MAX_CLIP, PAD, clip_tokenizer, t5_tokenizer, word_ids
from saccade.models.scenes_flux import ScenesFlux

WIDTH = 32
SIZES = ScenesFlux(text_dim=2 * WIDTH, text_heads=2, t5_layers=1, autoencoder_widths=(8, 8, 8), groups=4)


def _clip() -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(word_ids()), hidden_size=WIDTH, intermediate_size=WIDTH, projection_dim=WIDTH,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=MAX_CLIP,
        pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END,
    )  # fmt: skip
    return CLIPTextModelWithProjection(config)


def _transformer() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=2 * WIDTH, caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH, pos_embed_max_size=16,
    )  # fmt: skip


def tiny_sd3(**scheduler: Any) -> Any:
    """The same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = StableDiffusion3Pipeline(
            transformer=_transformer(), scheduler=FlowMatchEulerDiscreteScheduler(**scheduler),
            vae=SIZES.autoencoder(), text_encoder=_clip(), tokenizer=clip_tokenizer(), text_encoder_2=_clip(),
            tokenizer_2=clip_tokenizer(), text_encoder_3=SIZES.t5(), tokenizer_3=t5_tokenizer(),
        )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe
