"""Tiny models that make videos."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from tests.hosts.host import Host

WORDS = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])  # which are real
HUNYUAN = {
    "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2,
    "num_refiner_layers": 1, "patch_size": 2, "patch_size_t": 1, "text_embed_dim": 16, "rope_axes_dim": (4, 4, 8),
}  # fmt: skip
COSMOS = {
    "num_attention_heads": 2, "attention_head_dim": 18, "mlp_ratio": 2, "text_embed_dim": 16, "adaln_lora_dim": 4,
    "max_size": (4, 8, 8), "patch_size": (1, 2, 2),
}  # fmt: skip


def video(channels: int = 4) -> dict[str, Any]:
    """Latents of 3 x 4 x 6, a text of six words and the time, for two samples."""
    return {
        "hidden_states": torch.randn(2, channels, 3, 4, 6),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "timestep": torch.tensor([500, 500]),
        "return_dict": False,
    }


def hunyuan_video15() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import HunyuanVideo15Transformer3DModel

    model = HunyuanVideo15Transformer3DModel(
        in_channels=3, out_channels=1, text_embed_2_dim=8, image_embed_dim=8, **HUNYUAN
    )
    return model, {
        **video(3),
        "timestep": torch.tensor([500.0, 500.0]),
        "encoder_attention_mask": WORDS,
        "encoder_hidden_states_2": torch.randn(2, 3, 8),
        "encoder_attention_mask_2": torch.tensor([[1, 1, 0], [1, 0, 0]]),
        "image_embeds": torch.randn(2, 2, 8),
    }


def framepack() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import HunyuanVideoFramepackTransformer3DModel

    model = HunyuanVideoFramepackTransformer3DModel(
        in_channels=4, out_channels=4, num_single_layers=2, pooled_projection_dim=8, image_condition_type=None,
        has_image_proj=True, image_proj_dim=8, has_clean_x_embedder=True, **HUNYUAN,
    )  # fmt: skip
    return model, {
        **video(),
        "encoder_attention_mask": WORDS,
        "pooled_projections": torch.randn(2, 8),
        "guidance": torch.tensor([1000.0, 1000.0]),
        "image_embeds": torch.randn(2, 2, 8),
        "indices_latents": torch.arange(7, 10),
        "latents_clean": torch.randn(2, 4, 2, 4, 6),
        "indices_latents_clean": torch.tensor([0, 6]),
        "latents_history_2x": torch.randn(2, 4, 2, 4, 6),
        "indices_latents_history_2x": torch.tensor([4, 5]),
        "latents_history_4x": torch.randn(2, 4, 3, 4, 6),
        "indices_latents_history_4x": torch.tensor([1, 2, 3]),
    }


def kandinsky5() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import Kandinsky5Transformer3DModel

    model = Kandinsky5Transformer3DModel(
        in_visual_dim=4, in_text_dim=16, in_text_dim2=8, time_dim=16, out_visual_dim=4, model_dim=32, ff_dim=64,
        num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 6, 6),
    )  # fmt: skip
    return model, {
        **video(),
        "hidden_states": torch.randn(2, 3, 4, 6, 4),
        "timestep": torch.tensor([500.0, 500.0]),
        "pooled_projections": torch.randn(2, 8),
        "visual_rope_pos": (torch.arange(3), torch.arange(2), torch.arange(3)),
        "text_rope_pos": torch.arange(6),
        "scale_factor": (1.0, 2.0, 2.0),
    }


def cosmos() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import CosmosTransformer3DModel

    model = CosmosTransformer3DModel(in_channels=4, out_channels=4, num_layers=2, concat_padding_mask=False, **COSMOS)
    return model, {
        **video(),
        "timestep": torch.tensor([0.5, 0.5]),
        "attention_mask": WORDS.bool(),
        "fps": 16,
    }


class _OwnSize:
    """What is asked of torchvision, of masks that have the size that is asked for."""

    InterpolationMode = SimpleNamespace(NEAREST="nearest")
    functional = SimpleNamespace(resize=lambda mask, size, interpolation: mask)


def cosmos_controlnet() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import CosmosControlNetModel
    from diffusers.models.controlnets import controlnet_cosmos

    # It brings its padding mask to the size of the latents by torchvision, which is not here; ours is of that size.
    controlnet_cosmos.transforms = _OwnSize  # type: ignore[attr-defined]
    model = CosmosControlNetModel(n_controlnet_blocks=2, in_channels=12, latent_channels=6, model_channels=36, **COSMOS)
    inputs = video()
    return model, {
        "latents": inputs.pop("hidden_states"),
        **inputs,
        "controls_latents": torch.randn(2, 4, 3, 4, 6),
        "timestep": torch.tensor([0.5, 0.5]),
        "condition_mask": torch.zeros(2, 1, 3, 4, 6),
        "attention_mask": WORDS.bool(),
        "padding_mask": torch.zeros(1, 1, 4, 6),
    }


def easyanimate() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import EasyAnimateTransformer3DModel

    model = EasyAnimateTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, patch_size=2, num_layers=2,
        mmdit_layers=1, time_embed_dim=8, text_embed_dim=16, text_embed_dim_t5=8,
    )  # fmt: skip
    return model, {**video(), "encoder_hidden_states_t5": torch.randn(2, 2, 8)}


def allegro() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import AllegroTransformer3DModel

    model = AllegroTransformer3DModel(
        patch_size=2, patch_size_t=1, num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        num_layers=2, cross_attention_dim=24, sample_height=4, sample_width=6, sample_frames=3, caption_channels=16,
    )  # fmt: skip
    places = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(3)).T[:, None]

    def table() -> tuple[Tensor, Tensor]:
        angles = torch.outer(torch.arange(3), torch.tensor([1.0, 0.1])).repeat(1, 2)
        return angles.cos(), angles.sin()

    tables = (table(), table(), table()), tuple(places)
    return model, {**video(), "encoder_attention_mask": WORDS, "image_rotary_emb": tables}


def consisid() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import ConsisIDTransformer3DModel

    model = ConsisIDTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=16, num_layers=2, sample_width=6, sample_height=4, sample_frames=9, patch_size=2,
        max_text_seq_length=6, use_rotary_positional_embeddings=True, is_train_face=True, cross_attn_dim_head=8,
        cross_attn_num_heads=2, LFE_id_dim=8, LFE_vit_dim=8, LFE_depth=5, LFE_dim_head=8, LFE_num_heads=2,
        LFE_num_id_token=2, LFE_num_querie=2, LFE_output_dim=21,
    )  # fmt: skip
    angles = torch.randn(18, 16)
    return model, {
        **video(),
        "hidden_states": torch.randn(2, 3, 4, 4, 6),
        "image_rotary_emb": (angles.cos(), angles.sin()),
        "id_cond": torch.randn(2, 8),
        "id_vit_hidden": [torch.randn(2, 2, 8) for _ in range(5)],
    }


def motif_video() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import MotifVideoTransformer3DModel

    model = MotifVideoTransformer3DModel(
        in_channels=3, out_channels=1, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=2,
        num_decoder_layers=1, patch_size=2, text_embed_dim=16, image_embed_dim=8, rope_axes_dim=(4, 4, 8),
        enable_text_cross_attention_dual=True, enable_text_cross_attention_single=True,
    )  # fmt: skip
    return model, {**video(3), "encoder_attention_mask": WORDS, "image_embeds": torch.randn(2, 2, 8)}


def kandinsky6() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import Kandinsky6Transformer3DModel

    model = Kandinsky6Transformer3DModel(
        in_visual_dim=4, out_visual_dim=4, in_text_dim=16, in_text_dim2=8, time_dim=16, model_dim=32, ff_dim=64,
        num_text_blocks=1, num_visual_blocks=2, axes_dims=(4, 6, 6), visual_cond=False, in_audio_dim=4,
        out_audio_dim=4, model_dim_a=16, axes_dims_a=(4, 6, 6), audio_freqs_scaling=0.5, ca_rope=True,
        cross_gates=True, fix_modulation=True,
    )  # fmt: skip
    return model, {
        **video(),
        "hidden_states": torch.randn(2, 3, 4, 6, 4),
        "pooled_projections": torch.randn(2, 8),
        "audio_hidden_states": torch.randn(2, 5, 4),
        "encoder_attention_mask": WORDS.bool(),
    }


def minimax_h3() -> tuple[nn.Module, dict[str, Any]]:
    """Four words, a reference of 1 x 2 x 2, two moments of sound and a video of 2 x 2 x 3."""
    from diffusers import MiniMaxH3Transformer3DModel

    model = MiniMaxH3Transformer3DModel(
        num_attention_heads=2, attention_head_dim=16, hidden_size=32, num_layers=2, num_refiner_layers=1, ffn_dim=32,
        in_channels=2, audio_in_channels=4, text_dim=16, freq_dim=16, time_embed_hidden_dim=16, time_embed_dim=16,
        rope_freq_dim=2,
    )  # fmt: skip
    words, reference, sound, target = torch.arange(22).split((4, 4, 2, 12))
    places = torch.zeros(22, 3)
    places[words, 0] = torch.arange(4.0)
    places[reference] = torch.cartesian_prod(torch.tensor([4.0]), torch.arange(2.0), torch.arange(2.0))
    places[sound, 0] = torch.tensor([5.0, 6.0])
    places[target] = torch.cartesian_prod(torch.tensor([5.0, 6.7]), torch.arange(2.0), torch.arange(3.0))
    tags = torch.zeros(22).long()
    tags[words], tags[sound] = 1, 2
    return model, {
        "hidden_states": torch.randn(2, 16, 8),
        "audio_hidden_states": torch.randn(2, 2, 4),
        "encoder_hidden_states": torch.randn(2, 4, 16),
        "timestep": torch.tensor([0.0, 0.5]),
        "timestep_indices": torch.ones(22).long().index_fill(0, reference, 0),
        "token_tags": tags,
        "position_ids": places,
        "video_indices": torch.cat((reference, target)),
        "audio_indices": sound,
        "text_indices": words,
        "return_dict": False,
    }


def mochi() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import MochiTransformer3DModel

    model = MochiTransformer3DModel(
        patch_size=2, num_attention_heads=2, attention_head_dim=16, num_layers=2, pooled_projection_dim=16,
        in_channels=4, text_embed_dim=16, time_embed_dim=8, max_sequence_length=6,
    )  # fmt: skip
    return model, {**video(), "encoder_attention_mask": WORDS.bool()}


HOSTS = (
    Host("mochi", mochi, "image 18 (3x2x3) | text 6"),
    Host("hunyuan_video15", hunyuan_video15, "image 18 (3x2x3) | text 11"),
    Host(
        "framepack",
        framepack,
        "past4x 1 (1x1x1) | past2x 2 (1x1x2) | past 12 (2x2x3) | image 18 (3x2x3) | picture 2 | text 6",
    ),
    Host("kandinsky5", kandinsky5, "image 18 (3x2x3)", turns_in=torch.bfloat16),
    Host("cosmos", cosmos, "image 18 (3x2x3)"),
    Host("cosmos_controlnet", cosmos_controlnet, "image 18 (3x2x3)"),
    Host("easyanimate", easyanimate, "text 8 | image 18 (3x2x3)"),
    Host("allegro", allegro, "image 18 (3x2x3)"),
    Host("consisid", consisid, "text 6 | image 18 (3x2x3)"),
    Host("motif_video", motif_video, "image 18 (3x2x3) | picture 2 | text 6"),
    Host("kandinsky6", kandinsky6, "image 18 (3x2x3)"),
    Host("minimax_h3", minimax_h3, "text 4 | reference1 4 (1x2x2) | sound 2 | image 12 (2x2x3)"),
)
