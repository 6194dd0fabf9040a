"""Random video pipelines of the real classes that draw a few small frames in a moment."""

from typing import Any

import torch

from saccade.models.scene_words import t5_tokenizer, word_ids
from saccade.models.scenes_wan import ScenesWan

TINY = ScenesWan(
    hidden=32, head_dim=16, feed_forward=32, blocks=3, time_channels=16, text_dim=32, text_heads=2, text_layers=2,
    latent_channels=4, autoencoder_width=4, autoencoder_widths=(1, 1),
)  # fmt: skip
SIZES: dict[str, Any] = {"height": 32, "width": 32, "text_tokens": 16, "tile": 3, "overlap": 1, "steps": 3}


def tiny_wan() -> Any:
    """Three blocks, 4 x 4 tokens a latent frame; the same weights every time."""
    return _ready(TINY.pipeline)


def tiny_cogvideox(rotary: bool = False) -> Any:
    """Three blocks, 2 x 2 tokens a latent frame; the same weights every time."""
    return _ready(lambda: _cogvideox(rotary))


def _ready(make: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = make()
        for parameter in pipe.transformer.parameters():  # some start at zero, which would hide attention
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _cogvideox(rotary: bool) -> Any:
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogVideoXDPMScheduler,
        CogVideoXPipeline,
        CogVideoXTransformer3DModel,
    )
    from transformers import T5Config, T5EncoderModel

    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=32, num_layers=3, sample_width=4, sample_height=4, sample_frames=9, patch_size=2,
        temporal_compression_ratio=4, max_text_seq_length=16, use_rotary_positional_embeddings=rotary,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4, block_out_channels=(8, 8, 8, 8), latent_channels=4,
        layers_per_block=1, norm_num_groups=2, temporal_compression_ratio=4,
    )  # fmt: skip
    config = T5Config(
        vocab_size=len(word_ids()), d_model=32, d_kv=16, d_ff=64, num_layers=1, num_heads=2, pad_token_id=0,
        eos_token_id=3, is_encoder_decoder=False, use_cache=False, dropout_rate=0.0,
    )  # fmt: skip
    scheduler = CogVideoXDPMScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", snr_shift_scale=3.0
    )
    return CogVideoXPipeline(
        tokenizer=t5_tokenizer(), text_encoder=T5EncoderModel(config).eval(), vae=vae.eval(),
        transformer=transformer.eval(), scheduler=scheduler,
    )  # fmt: skip
