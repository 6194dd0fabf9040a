"""Tiny models that make sound."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host

WORDS = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]]).bool()  # which are real


def sound(time: float = 0.5) -> dict[str, Any]:
    """Latents of seven moments with the channels last, a text of five words and the time, for two samples."""
    return {
        "hidden_states": torch.randn(2, 7, 4),
        "encoder_hidden_states": torch.randn(2, 5, 16),
        "timestep": torch.tensor([time, time]),
        "return_dict": False,
    }


def channels_first(**more: Any) -> dict[str, Any]:
    return {**sound(), "hidden_states": torch.randn(2, 4, 7), **more}


def stable_audio() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import StableAudioDiTModel

    model = StableAudioDiTModel(
        in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2, num_key_value_attention_heads=1,
        out_channels=4, cross_attention_dim=16, time_proj_dim=8, global_states_input_dim=8,
        cross_attention_input_dim=16,
    )  # fmt: skip
    angles = torch.outer(torch.arange(8), torch.tensor([1.0, 0.1, 0.01, 0.001])).repeat(1, 2)
    return model, channels_first(
        global_hidden_states=torch.randn(2, 1, 8),
        rotary_embedding=(angles.cos(), angles.sin()),
        encoder_attention_mask=WORDS,
    )


def stable_audio3() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import StableAudio3DiTModel

    model = StableAudio3DiTModel(
        io_channels=4, embed_dim=32, depth=2, num_heads=2, cond_token_dim=16, global_cond_dim=16, local_add_cond_dim=5,
        timestep_features_dim=8, num_memory_tokens=3,
    )  # fmt: skip
    return model, channels_first(
        global_hidden_states=torch.randn(2, 16),
        encoder_attention_mask=WORDS,
        local_add_cond=torch.randn(2, 5, 7),
    )


def ace_step() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import AceStepTransformer1DModel

    model = AceStepTransformer1DModel(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, in_channels=10, audio_acoustic_hidden_dim=4, patch_size=2, sliding_window=2,
        encoder_hidden_size=16,
    )  # fmt: skip
    inputs = {**sound(), "hidden_states": torch.randn(2, 11, 4)}
    return model, {**inputs, "timestep_r": inputs["timestep"], "context_latents": torch.randn(2, 11, 6)}


def longcat_audio() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import LongCatAudioDiTTransformer

    model = LongCatAudioDiTTransformer(dit_dim=32, dit_depth=2, dit_heads=2, dit_text_dim=16, latent_dim=4)
    return model, {
        **sound(),
        "encoder_attention_mask": WORDS,
        "attention_mask": torch.tensor([[1] * 7, [1] * 5 + [0] * 2]).bool(),
        "latent_cond": torch.randn(2, 7, 4),
    }


def minimax_music3() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import MiniMaxMusic3Transformer1DModel

    model = MiniMaxMusic3Transformer1DModel(
        in_channels=4, condition_dim=16, num_layers=2, num_attention_heads=2, attention_head_dim=16, ff_inner_dim=32,
        rotary_dim=8, fourier_embedding_dim=8,
    )  # fmt: skip
    return model, channels_first(encoder_hidden_states=torch.randn(2, 7, 16))


HOSTS = (
    Host("stable_audio", stable_audio, "prefix 1 | image 7 (7x1x1)"),
    Host("stable_audio3", stable_audio3, "prefix 3 | image 7 (7x1x1)"),
    Host("ace_step", ace_step, "image 6 (6x1x1)"),
    Host("longcat_audio", longcat_audio, "image 7 (7x1x1)"),
    Host("minimax_music3", minimax_music3, "prefix 1 | image 7 (7x1x1)"),
)
