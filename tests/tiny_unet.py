"""A random Stable Diffusion pipeline that draws 16 x 16 pixels in a moment; with GLIGEN's gates or without."""

from typing import Any

import torch
from transformers import CLIPTextConfig, CLIPTextModel

from saccade.models.scene_words import BEGIN, END, MAX_CLIP, PAD, clip_tokenizer, word_ids
from tests.hosts.models.unets import unet

WIDTH = 8


def _clip() -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(word_ids()), hidden_size=WIDTH, intermediate_size=WIDTH, projection_dim=WIDTH,
        num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=MAX_CLIP,
        pad_token_id=PAD, bos_token_id=BEGIN, eos_token_id=END,
    )  # fmt: skip
    return CLIPTextModel(config)


def _autoencoder() -> Any:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(
        **blocks, block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=16
    )


def tiny_unet(*, gated: bool = False) -> Any:
    """The same weights every time; gates are open by a half."""
    from diffusers import DDIMScheduler, StableDiffusionGLIGENPipeline, StableDiffusionPipeline

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = unet(**({"attention_type": "gated"} if gated else {}))[0].eval()
        parts = {"vae": _autoencoder(), "text_encoder": _clip(), "tokenizer": clip_tokenizer(), "unet": model}
        for module in model.modules():
            if type(module).__name__ == "GatedSelfAttentionDense":
                torch.nn.init.constant_(module.alpha_attn, 0.5)
    kind = StableDiffusionGLIGENPipeline if gated else StableDiffusionPipeline
    pipe = kind(
        **parts,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
