"""Tiny random pipelines of the classes AttenCraft is trained on, and a picture each can take."""

from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    PixArtAlphaPipeline,
    PixArtTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from saccade.models.scene_words import BEGIN, END, MAX_CLIP, PAD, clip_tokenizer, t5_tokenizer, word_ids
from saccade.models.scenes_flux import ScenesFlux
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

SIZES = ScenesFlux(text_dim=32, text_heads=2, t5_layers=1, autoencoder_widths=(8, 8, 8), groups=4)
SIDE = 32


def tiny_pixart() -> Any:
    """Prompts of 32 tokens, padding masked."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PixArtTransformer2DModel(
            num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2,
            cross_attention_dim=32, caption_channels=32, sample_size=8, patch_size=2, use_additional_conditions=False,
        )  # fmt: skip
        pipe = PixArtAlphaPipeline(
            tokenizer=t5_tokenizer(), text_encoder=SIZES.t5(), vae=SIZES.autoencoder(), transformer=model,
            scheduler=DDPMScheduler(),
        )  # fmt: skip
    return _quiet(pipe)


def tiny_sd(prediction: str = "epsilon") -> Any:
    """A U-Net of two levels, 8 and 4 latents along a side."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(16, 32, 32),
            norm_num_groups=4, cross_attention_dim=32, attention_head_dim=2,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        )  # fmt: skip
        config = CLIPTextConfig(
            vocab_size=len(word_ids()), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=MAX_CLIP, pad_token_id=PAD, bos_token_id=BEGIN,
            eos_token_id=END,
        )  # fmt: skip
        vae: AutoencoderKL = SIZES.autoencoder()
        pipe = StableDiffusionPipeline(
            vae=vae, text_encoder=CLIPTextModel(config), tokenizer=clip_tokenizer(), unet=model,
            scheduler=DDIMScheduler(prediction_type=prediction, steps_offset=1, clip_sample=False),
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    return _quiet(pipe)


PIPES = {"flux": tiny_flux, "sd3": tiny_sd3, "pixart": tiny_pixart, "sd": tiny_sd}


def picture(seed: int = 0, side: int = SIDE) -> np.ndarray:
    """Smooth noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((side // 8, side // 8, 3), dtype=np.float32)
    return np.kron(coarse, np.ones((8, 8, 1), np.float32))


def _quiet(pipe: Any) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe
