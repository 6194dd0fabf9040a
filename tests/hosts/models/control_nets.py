"""Tiny control nets, which give one output for each block."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host


def sd3_control() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import SD3ControlNetModel

    model = SD3ControlNetModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, out_channels=4,
        pos_embed_max_size=8, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 12),
        "controlnet_cond": torch.randn(2, 4, 8, 12),
        "encoder_hidden_states": torch.randn(2, 6, 32),
        "pooled_projections": torch.randn(2, 32),
        "timestep": torch.tensor([500.0, 500.0]),
        "return_dict": False,
    }


def sd3_control_alone() -> tuple[nn.Module, dict[str, Any]]:
    """As that of SD 3.5: it takes patches and no text."""
    from diffusers import SD3ControlNetModel

    model = SD3ControlNetModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=None, pooled_projection_dim=32, use_pos_embed=False,
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 24, 32),
        "controlnet_cond": torch.randn(2, 4, 8, 12),
        "pooled_projections": torch.randn(2, 32),
        "timestep": torch.tensor([500.0, 500.0]),
        "return_dict": False,
    }


def hunyuan_dit_control() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import HunyuanDiT2DControlNetModel

    model = HunyuanDiT2DControlNetModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, patch_size=2, sample_size=8, hidden_size=32,
        transformer_num_layers=6, mlp_ratio=2.0, cross_attention_dim=16, cross_attention_dim_t5=24,
        pooled_projection_dim=16, text_len=3, text_len_t5=4, use_style_cond_and_image_meta_size=False,
    )  # fmt: skip
    angles = torch.randn(24, 16)
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 12),
        "timestep": torch.tensor([500.0, 500.0]),
        "controlnet_cond": torch.randn(2, 4, 8, 12),
        "encoder_hidden_states": torch.randn(2, 3, 16),
        "text_embedding_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
        "encoder_hidden_states_t5": torch.randn(2, 4, 24),
        "text_embedding_mask_t5": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]),
        "image_rotary_emb": (angles.cos(), angles.sin()),
        "return_dict": False,
    }


def qwen_image_control() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import QwenImageControlNetModel

    model = QwenImageControlNetModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 20, 16),
        "controlnet_cond": torch.randn(2, 20, 16),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_hidden_states_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]),
        "timestep": torch.tensor([0.5, 0.5]),
        "img_shapes": [(1, 4, 5)] * 2,
        "return_dict": False,
    }


def z_image_control() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import ZImageControlNetModel, ZImageTransformer2DModel

    model = ZImageControlNetModel(
        control_layers_places=[0, 1], control_refiner_layers_places=[0], control_in_dim=4, dim=32, n_refiner_layers=1,
        n_heads=2, n_kv_heads=2,
    )  # fmt: skip
    whole = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 4, 8], axes_lens=[256, 32, 32],
    )  # fmt: skip
    return ZImageControlNetModel.from_transformer(model, whole), {
        "x": list(torch.randn(2, 4, 1, 8, 12)),
        "t": torch.tensor([0.5, 0.5]),
        "cap_feats": [torch.randn(5, 16), torch.randn(40, 16)],
        "control_context": list(torch.randn(2, 4, 1, 8, 12)),
    }


HOSTS = (
    Host("hunyuan_dit_control", hunyuan_dit_control, "image 24 (1x4x6)"),
    Host("qwen_image_control", qwen_image_control, "text 6 | image 20 (1x4x5)"),
    Host("sd3_control", sd3_control, "image 24 (1x4x6) | text 6"),
    Host("sd3_control_alone", sd3_control_alone, "image 24 (1x4x6)"),
    Host("z_image_control", z_image_control, "image 24 (1x4x6) | image padding 8", counted=True),
)
