"""Tiny models of Sana's make: two blocks of two heads, of which some attend by softmax to the text alone."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host
from tests.hosts.models import ltx
from tests.hosts.stand_ins import EvenKeys

SIZES: dict[str, Any] = {
    "in_channels": 4, "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2,
    "num_cross_attention_heads": 2, "cross_attention_head_dim": 12, "cross_attention_dim": 24, "caption_channels": 16,
    "sample_size": 8,
}  # fmt: skip


def picture(*sides: int) -> dict[str, Any]:
    """Latents of these sides, padded words and a time."""
    return {
        "hidden_states": torch.randn(2, 4, *sides),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_attention_mask": ltx.WORDS,
        "timestep": torch.tensor([500.0, 500.0]),
        "return_dict": False,
    }


def sana() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import SanaTransformer2DModel

    return SanaTransformer2DModel(**SIZES, out_channels=4, patch_size=2), picture(4, 6)


def sana_controlnet() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import SanaControlNetModel

    return SanaControlNetModel(**SIZES, patch_size=2), {**picture(4, 6), "controlnet_cond": torch.randn(2, 4, 4, 6)}


def sana_video() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import SanaVideoTransformer3DModel

    return SanaVideoTransformer3DModel(**SIZES, out_channels=4, rope_max_seq_len=16), picture(3, 4, 6)


def sana_wm() -> tuple[nn.Module, dict[str, Any]]:
    """A linear block, then one of softmax, under a camera that looks straight ahead."""
    from diffusers import SanaWMTransformer3DModel

    model = SanaWMTransformer3DModel(
        in_channels=4, num_layers=2, hidden_size=32, num_attention_heads=2, softmax_every_n=2, linear_head_dim=16,
        chunk_plucker_channels=6, caption_channels=16, mlp_ratio=2.0,
    )  # fmt: skip
    inputs = picture(3, 2, 3)
    camera = torch.cat((torch.eye(4).flatten(), torch.tensor([2.0, 2.0, 1.5, 1.0])))
    return model, {
        **inputs,
        "encoder_hidden_states": inputs["encoder_hidden_states"][:, None],
        "timestep": torch.tensor([[[0.0, 500.0, 500.0]]] * 2),
        "camera_conditions": camera.expand(2, 3, -1).clone(),
        "chunk_plucker": torch.randn(2, 6, 3, 2, 3),
    }


def sana_wm_refiner() -> tuple[nn.Module, dict[str, Any]]:
    """Eighteen tokens under a rotary table, without a cache."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel

    model = SanaWMLTX2RefinerTransformer3DModel(**ltx.SIZES, **ltx.SOUND)
    inputs = {name: given for name, given in ltx.video().items() if name not in ("num_frames", "height", "width")}
    coords = torch.stack((ltx.places(3, 2, 3), ltx.places(3, 2, 3) + 1), dim=-1).expand(2, -1, -1, -1)
    return model, {**inputs, "video_rotary_emb": model.rope(coords)}


HOSTS = (
    Host("sana", sana, "image 6 (1x2x3)", window=EvenKeys()),
    Host("sana_controlnet", sana_controlnet, "image 6 (1x2x3)", window=EvenKeys()),
    Host("sana_video", sana_video, "image 18 (3x2x3)", window=EvenKeys()),
    Host("sana_wm", sana_wm, "image 18 (3x2x3)", text_axis=2),
    Host("sana_wm_refiner", sana_wm_refiner, "image 18", window=EvenKeys()),
)
