"""Tiny random models of the real host classes, and inputs for one forward of each."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.core.layout import Layout
from tests.hosts import vits
from tests.hosts.host import Host
from tests.hosts.host import output as output
from tests.hosts.stand_ins import Near
from tests.hosts.transformers import pictured, texts

PLAIN = Layout.joint(text=3, grid=(1, 4, 4))


class PlainAttention(nn.Module):
    """Attention as people write it by hand."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def plain() -> tuple[nn.Module, dict[str, Any]]:
    return nn.Sequential(PlainAttention(16, 2), nn.GELU(), PlainAttention(16, 2)), {
        "input": torch.randn(2, PLAIN.n, 16)
    }


def flux() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import FluxTransformer2DModel

    model = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return model, flux_inputs(height=4, width=4)


def flux_inputs(height: int, width: int, text: int = 6) -> dict[str, Any]:
    places = torch.cartesian_prod(torch.zeros(1).long(), torch.arange(height), torch.arange(width)).float()
    return {
        "hidden_states": torch.randn(2, height * width, 4),
        "encoder_hidden_states": torch.randn(2, text, 32),
        "pooled_projections": torch.randn(2, 32),
        "timestep": torch.tensor([0.5, 0.5]),
        "img_ids": places,
        "txt_ids": torch.zeros(text, 3),
        "return_dict": False,
    }


def sd3() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=32, pooled_projection_dim=32, out_channels=4,
        pos_embed_max_size=8, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": torch.randn(2, 6, 32),
        "pooled_projections": torch.randn(2, 32),
        "timestep": torch.tensor([500.0, 500.0]),
        "return_dict": False,
    }


def pixart() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import PixArtTransformer2DModel

    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2,
        cross_attention_dim=32, caption_channels=24, sample_size=8, patch_size=2, use_additional_conditions=False,
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "encoder_hidden_states": torch.randn(2, 6, 24),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]),
        "timestep": torch.tensor([500, 500]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        "return_dict": False,
    }


def dit() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=10,
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor([500, 500]),
        "class_labels": torch.tensor([1, 2]),
        "return_dict": False,
    }


def wan() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import WanTransformer3DModel

    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16,
        freq_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 4, 3, 4, 6),
        "timestep": torch.tensor([500, 500]),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "return_dict": False,
    }


def cogvideox() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=16, num_layers=2, sample_width=8, sample_height=6, sample_frames=9, patch_size=2,
        temporal_compression_ratio=4, max_text_seq_length=6, use_rotary_positional_embeddings=True,
    )  # fmt: skip
    angles = torch.randn(36, 16)
    return model, {
        "hidden_states": torch.randn(2, 3, 4, 6, 8),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "timestep": torch.tensor([500, 500]),
        "image_rotary_emb": (angles.cos(), angles.sin()),
        "return_dict": False,
    }


def hunyuan_video() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import HunyuanVideoTransformer3DModel

    model = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=2,
        num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=16,
        pooled_projection_dim=8, rope_axes_dim=(4, 4, 8),
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 4, 3, 4, 6),
        "timestep": torch.tensor([500, 500]),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_attention_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]),
        "pooled_projections": torch.randn(2, 8),
        "guidance": torch.tensor([1000.0, 1000.0]),
        "return_dict": False,
    }


def hunyuan_dit() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import HunyuanDiT2DModel

    model = HunyuanDiT2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, patch_size=2, sample_size=8, hidden_size=32,
        num_layers=2, mlp_ratio=2.0, cross_attention_dim=16, cross_attention_dim_t5=24, pooled_projection_dim=16,
        text_len=3, text_len_t5=4, use_style_cond_and_image_meta_size=False,
    )  # fmt: skip
    angles = torch.randn(16, 16)
    return model, {
        "hidden_states": torch.randn(2, 4, 8, 8),
        "timestep": torch.tensor([500.0, 500.0]),
        "encoder_hidden_states": torch.randn(2, 3, 16),
        "text_embedding_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
        "encoder_hidden_states_t5": torch.randn(2, 4, 24),
        "text_embedding_mask_t5": torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]),
        "image_rotary_emb": (angles.cos(), angles.sin()),
        "return_dict": False,
    }


def qwen_image() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import QwenImageTransformer2DModel

    model = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 20, 16),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_hidden_states_mask": torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]]),
        "timestep": torch.tensor([0.5, 0.5]),
        "img_shapes": [[(1, 4, 5)]] * 2,
        "return_dict": False,
    }


DIFFUSERS = tuple(
    Host(make.__name__, make)
    for make in (cogvideox, dit, flux, hunyuan_dit, hunyuan_video, pixart, qwen_image, sd3, wan)
)
TEXTS = tuple(Host(make.__name__, make, window=Near(3), open=Near(1000)) for make in texts.MAKERS)
TRANSFORMERS = (*TEXTS, *(Host(make.__name__, make) for make in pictured.MAKERS))
TIMM = tuple(Host(make.__name__, make) for make in vits.MAKERS)
MODELS = {
    name: import_module(f"tests.hosts.models.{name}").HOSTS
    for _, name, _ in iter_modules([str(Path(__file__).parent / "models")])
}
MORE = tuple(host for hosts in MODELS.values() for host in hosts)  # a file for each kind
READING = ("canvas", "decoders", "encoders", "pictured", "windowed")  # those of transformers and timm
DRAWING = (*DIFFUSERS, *(host for name, hosts in MODELS.items() if name not in READING for host in hosts))
HOSTS = (*DIFFUSERS, *TIMM, *TRANSFORMERS, Host("plain", plain))
BY_NAME = {host.name: host for host in HOSTS}


def attach_options(host: Host) -> dict[str, Any]:
    """What `attach` must be given for this host."""
    return {"layout": PLAIN} if host.name == "plain" else {}
