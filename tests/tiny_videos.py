"""Random video pipelines of the real classes that draw a few small frames in a moment."""

from typing import Any

import torch

from saccade.models.scene_words import clip_tokenizer, t5_tokenizer, word_ids
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


def tiny_hunyuan() -> Any:
    """Two double and two single blocks, 2 x 2 tokens a latent frame; the same weights every time."""
    return _ready(_hunyuan)


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


def _hunyuan() -> Any:
    from diffusers import (
        AutoencoderKLHunyuanVideo,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideoPipeline,
        HunyuanVideoTransformer3DModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=2,
        num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=32,
        pooled_projection_dim=16, rope_axes_dim=(4, 4, 8),
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, down_block_types=("HunyuanVideoDownBlock3D",) * 4, block_out_channels=(8, 8, 8, 8),
        up_block_types=("HunyuanVideoUpBlock3D",) * 4, layers_per_block=1, norm_num_groups=4,
    )  # fmt: skip
    llama = LlamaConfig(
        vocab_size=len(word_ids()), hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    clip = CLIPTextConfig(
        vocab_size=len(word_ids()), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=16, max_position_embeddings=77, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    return HunyuanVideoPipeline(
        text_encoder=LlamaModel(llama).eval(), tokenizer=t5_tokenizer(), transformer=transformer.eval(),
        vae=vae.eval(), scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder_2=CLIPTextModel(clip).eval(),
        tokenizer_2=clip_tokenizer(),
    )  # fmt: skip
