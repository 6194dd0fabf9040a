"""Tiny models of Wan's make: two blocks of two heads over frames of 2 x 3 patches."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host

SIZES: dict[str, Any] = {
    "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
    "text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2, "rope_max_seq_len": 32,
}  # fmt: skip


def video(frames: int = 3, channels: int = 4, words: int = 6) -> dict[str, Any]:
    """Latents of frames of 4 x 6, a timestep and words."""
    return {
        "hidden_states": torch.randn(2, channels, frames, 4, 6),
        "timestep": torch.tensor([500, 500]),
        "encoder_hidden_states": torch.randn(2, words, 16),
        "return_dict": False,
    }


def wan_vace() -> tuple[nn.Module, dict[str, Any]]:
    """Control at the first block and the last, of two strengths."""
    from diffusers import WanVACETransformer3DModel

    model = WanVACETransformer3DModel(**{**SIZES, "num_layers": 3}, vace_layers=[0, 2], vace_in_channels=5)
    control = {"control_hidden_states": torch.randn(2, 5, 3, 4, 6)}
    return model, {**video(), **control, "control_hidden_states_scale": torch.tensor([1.0, 0.5])}


def wan_animate() -> tuple[nn.Module, dict[str, Any]]:
    """A reference frame and three of the video, each with a face of its own but the first."""
    from diffusers import WanAnimateTransformer3DModel

    model = WanAnimateTransformer3DModel(
        **{**SIZES, "in_channels": 12}, latent_channels=4, image_dim=None, motion_encoder_size=8, motion_style_dim=8,
        motion_encoder_channel_sizes={"4": 4, "8": 4}, motion_dim=4, motion_encoder_dim=8, face_encoder_hidden_dim=8,
        face_encoder_num_heads=2, inject_face_latents_blocks=2,
    )  # fmt: skip
    face = {"pose_hidden_states": torch.randn(2, 4, 3, 4, 6), "face_pixel_values": torch.randn(2, 3, 9, 8, 8)}
    return model, {**video(frames=4, channels=12), **face}


def chrono_edit() -> tuple[nn.Module, dict[str, Any]]:
    """The picture and what becomes of it, without the frames between."""
    from diffusers import ChronoEditTransformer3DModel

    return ChronoEditTransformer3DModel(**SIZES), video(frames=2)


def skyreels() -> tuple[nn.Module, dict[str, Any]]:
    """Diffusion forcing: each frame at a time of its own, frames by twos see those before them."""
    from diffusers import SkyReelsV2Transformer3DModel

    model = SkyReelsV2Transformer3DModel(**SIZES, num_frame_per_block=2)
    times = torch.tensor([[0.0, 0.0, 300.0, 500.0]]).repeat(2, 1)
    return model, {**video(frames=4), "timestep": times, "enable_diffusion_forcing": True}


def anyflow() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import AnyFlowTransformer3DModel

    inputs, times = video(), torch.full((2, 3), 500.0)
    latents = inputs["hidden_states"].transpose(1, 2)
    return AnyFlowTransformer3DModel(**SIZES), {
        **inputs, "hidden_states": latents, "timestep": times, "r_timestep": times - 100,
    }  # fmt: skip


def helios() -> tuple[nn.Module, dict[str, Any]]:
    """Five past frames before the video: three old ones at a quarter, then one at half and one at full resolution."""
    from diffusers import HeliosTransformer3DModel

    model = HeliosTransformer3DModel(**_without("rope_max_seq_len"), rope_dim=(4, 4, 4), is_amplify_history=True)
    inputs, frames = video(), {"long": (0, 3), "mid": (3, 4), "short": (4, 5), "hidden_states": (5, 8)}
    for name, (first, last) in frames.items():
        of = name if name == "hidden_states" else f"latents_history_{name}"
        inputs[f"indices_{of}"] = torch.arange(first, last)[None]
        inputs[of] = torch.randn(2, 4, last - first, 4, 6)
    return model, inputs


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in SIZES.items() if key != name}


GRID = "image 18 (3x2x3)"
HOSTS = (
    Host("wan_vace", wan_vace, GRID),
    Host("wan_animate", wan_animate, "reference1 6 (1x2x3) | image 18 (3x2x3)"),
    Host("chrono_edit", chrono_edit, "image 12 (2x2x3)"),
    Host("skyreels", skyreels, "image 24 (4x2x3)"),
    Host("anyflow", anyflow, GRID),
    Host("helios", helios, f"history_long 1 (1x1x1) | history_mid 2 (1x1x2) | history_short 6 (1x2x3) | {GRID}"),
)
