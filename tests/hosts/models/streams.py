"""Tiny models whose image and text make up one stream, or are refined apart before they meet."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host


def z_image() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import ZImageTransformer2DModel

    model = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=2, n_refiner_layers=2, n_heads=2, n_kv_heads=2, cap_feat_dim=16,
        axes_dims=[4, 4, 8], axes_lens=[256, 32, 32],
    )  # fmt: skip
    return model, {
        "x": list(torch.randn(2, 4, 1, 8, 12)),
        "t": torch.tensor([0.5, 0.5]),
        "cap_feats": [torch.randn(5, 16), torch.randn(40, 16)],
        "return_dict": False,
    }


def lumina2() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import Lumina2Transformer2DModel

    model = Lumina2Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=64, num_layers=2, num_refiner_layers=2,
        num_attention_heads=4, num_kv_heads=2, multiple_of=16, axes_dim_rope=(4, 4, 8), axes_lens=(64, 32, 32),
        cap_feat_dim=16,
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 12),
        "timestep": torch.tensor([0.5, 0.5]),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 0, 0]] * 2),
        "return_dict": False,
    }


def lumina_next() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import LuminaNextDiT2DModel
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    model = LuminaNextDiT2DModel(
        sample_size=8, patch_size=2, in_channels=4, hidden_size=64, num_layers=2, num_attention_heads=4,
        num_kv_heads=2, multiple_of=16, cross_attention_dim=16,
    )  # fmt: skip
    nn.init.normal_(model.pad_token)
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 12),
        "timestep": torch.tensor([0.5, 0.5]),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]),
        "image_rotary_emb": get_2d_rotary_pos_embed_lumina(16, 16, 16),
        "cross_attention_kwargs": {},
        "return_dict": False,
    }


def omnigen() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import OmniGenTransformer2DModel

    model = OmniGenTransformer2DModel(
        in_channels=4, patch_size=2, hidden_size=32, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=32, num_layers=2, pad_token_id=0, vocab_size=40, pos_embed_max_size=8, time_step_dim=8,
        rope_scaling={"short_factor": [1.0] * 8, "long_factor": [1.0] * 8},
    )  # fmt: skip
    words, tokens, pads = 6, 24, (0, 2)
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 12),
        "timestep": torch.tensor([0.5, 0.5]),
        "input_ids": torch.randint(1, 38, (2, words)),
        "input_img_latents": [],
        "input_image_sizes": {},
        "attention_mask": torch.stack([causal(words + 1, tokens, pad) for pad in pads]),
        "position_ids": torch.stack([(torch.arange(words + 1 + tokens) - pad).clamp(min=0) for pad in pads]),
        "return_dict": False,
    }


def causal(before: int, image: int, pad: int) -> torch.Tensor:
    """OmniGen's map: what comes before the image is causal, the image sees all; padding, on the left, sees all."""
    seen = torch.ones(before + image, before + image).tril()
    seen[before:] = 1
    seen[pad:, :pad] = 0
    seen[:pad] = 1
    return seen


def hidream() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import HiDreamImageTransformer2DModel

    model = HiDreamImageTransformer2DModel(
        patch_size=2, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        caption_channels=[16, 24], text_emb_dim=8, axes_dims_rope=(4, 4, 8), max_resolution=(8, 12),
        llama_layers=[0, 1, 0, 1],
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 10),
        "timesteps": torch.tensor([500, 500]),
        "encoder_hidden_states_t5": torch.randn(2, 3, 16),
        "encoder_hidden_states_llama3": torch.randn(2, 2, 4, 24),
        "pooled_embeds": torch.randn(2, 8),
        "return_dict": False,
    }


def qwen_image21() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import QwenImage21Transformer2DModel

    model = QwenImage21Transformer2DModel(
        in_channels=8, out_channels=8, num_layers=2, attention_head_dim=16, num_attention_heads=2, context_in_dim=16,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 24, 8),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_hidden_states_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]).bool(),
        "timestep": torch.tensor([0.5, 0.5]),
        "img_shapes": [[(1, 4, 6)]] * 2,
        "img_mask": torch.tensor([[False] * 6 + [True] * 6] * 2),
        "return_dict": False,
    }


def joyimage() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import JoyImageEditTransformer3DModel

    model = JoyImageEditTransformer3DModel(
        in_channels=4, hidden_size=32, num_attention_heads=2, text_dim=16, num_layers=2, rope_dim_list=[4, 4, 8],
        rope_type="mrope",
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 2, 4, 1, 8, 12),
        "timestep": torch.tensor([500.0, 500.0]),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "return_dict": False,
    }


def joyimage_plus() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import JoyImageEditPlusTransformer3DModel

    model = JoyImageEditPlusTransformer3DModel(
        in_channels=4, hidden_size=32, num_attention_heads=2, text_dim=16, num_layers=2, rope_dim_list=[4, 4, 8]
    )
    return model, {
        "hidden_states": torch.randn(2, 20, 4, 1, 2, 2),
        "timestep": torch.tensor([500.0, 500.0]),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_hidden_states_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]),
        "shape_list": [[(1, 3, 4), (1, 2, 3)]] * 2,
        "return_dict": False,
    }


def uvit() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import UVit2DModel

    model = UVit2DModel(
        hidden_size=32, cond_embed_dim=8, micro_cond_encode_dim=4, micro_cond_embed_dim=20, encoder_hidden_size=16,
        vocab_size=20, codebook_size=16, in_channels=16, block_out_channels=16, num_res_blocks=1, downsample=True,
        upsample=True, block_num_heads=2, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        sample_size=8,
    )  # fmt: skip
    return model, {
        "input_ids": torch.randint(0, 20, (2, 8, 12)),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "pooled_text_emb": torch.randn(2, 8),
        "micro_conds": torch.rand(2, 5),
    }


def dreamlite() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers.models.unets.unet_dreamlite import DreamLiteUNetModel

    model = DreamLiteUNetModel(
        sample_size=8, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=4, cross_attention_dim=8,
        attention_head_dim=2, ff_mult=2,
        down_block_types=("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
        up_block_types=("DreamLiteCrossAttnUpBlock2D", "DreamLiteCrossAttnNoSelfAttnUpBlock2D"),
    )  # fmt: skip
    return model, {
        "sample": torch.randn(2, 4, 16, 8),
        "encoder_hidden_states": torch.randn(2, 3, 8),
        "encoder_attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "timestep": 500,
        "return_dict": False,
    }


def dreamlite_transformer() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers.models.transformers.transformer_2d_dreamlite import DreamLiteTransformer2DModel

    model = DreamLiteTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=8, num_layers=2, norm_num_groups=4,
        cross_attention_dim=16,
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 8, 4, 6),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]),
        "return_dict": False,
    }


HOSTS = (
    Host("dreamlite", dreamlite, "image 32 (1x8x4)"),
    Host("dreamlite_transformer", dreamlite_transformer, "image 24 (1x4x6)"),
    Host("hidream", hidream, "image 20 (1x4x5) | image padding 4 | text 11"),
    Host("joyimage", joyimage, "image 24 (1x4x6) | reference1 24 (1x4x6) | text 6"),
    Host("joyimage_plus", joyimage_plus, "image 12 (1x3x4) | reference1 6 (1x2x3) | image padding 2 | text 6"),
    Host("lumina2", lumina2, "image 24 (1x4x6)"),
    Host("lumina_next", lumina_next, "image 24 (1x4x6)"),
    Host("omnigen", omnigen, "text 6 | time 1 | image 24 (1x4x6)", text="input_ids"),
    Host("qwen_image21", qwen_image21, "image 24 (1x4x6)", image=(slice(None), slice(-24, None))),
    Host("uvit", uvit, "image 24 (1x4x6)"),
    Host("z_image", z_image, "image 24 (1x4x6) | image padding 8", maps=("image_noise_mask",)),
)
