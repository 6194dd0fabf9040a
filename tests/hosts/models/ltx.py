"""Tiny models of LTX's make: two blocks of two heads, frames of 2 x 3 tokens, in LTX-2 with four moments of sound."""

from typing import Any

import torch
from torch import nn

from tests.hosts.host import Host

WORDS = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0]])  # which are real
SIZES: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 12, "cross_attention_dim": 24,
    "num_layers": 2, "caption_channels": 16,
}  # fmt: skip
SOUND: dict[str, Any] = {
    "audio_in_channels": 4, "audio_out_channels": 4, "audio_num_attention_heads": 2, "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 16,
}  # fmt: skip


def video(tokens: int = 18) -> dict[str, Any]:
    """Tokens of three frames, words and a time."""
    return {
        "hidden_states": torch.randn(2, tokens, 4),
        "encoder_hidden_states": torch.randn(2, 6, 16),
        "encoder_attention_mask": WORDS,
        "timestep": torch.tensor([500.0, 500.0]),
        "num_frames": 3,
        "height": 2,
        "width": 3,
        "return_dict": False,
    }


def places(frames: int, height: int, width: int, start: int = 0) -> torch.Tensor:
    """Pixels (3 n) of a raster of tokens that is 8 frames and 32 pixels apart."""
    raster = torch.cartesian_prod(torch.arange(frames), torch.arange(height), torch.arange(width))
    return ((raster + torch.tensor([start, 0, 0])) * torch.tensor([8, 32, 32])).T.float()


def ltx() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import LTXVideoTransformer3DModel

    return LTXVideoTransformer3DModel(**SIZES), {**video(), "rope_interpolation_scale": (0.5, 32, 32)}


def ltx_references() -> tuple[nn.Module, dict[str, Any]]:
    """A reference of one frame, at the time of the last, before the video."""
    from diffusers import LTXVideoTransformer3DModel

    inputs = {name: given for name, given in video(24).items() if name not in ("num_frames", "height", "width")}
    coords = torch.cat((places(1, 2, 3, start=2), places(3, 2, 3)), dim=1).expand(2, -1, -1)
    times = torch.tensor([[20.0] * 6 + [500.0] * 18] * 2)
    return LTXVideoTransformer3DModel(**SIZES), {**inputs, "video_coords": coords, "timestep": times}


def ltx2() -> tuple[nn.Module, dict[str, Any]]:
    from diffusers import LTX2VideoTransformer3DModel

    model = LTX2VideoTransformer3DModel(**SIZES, **SOUND, perturbed_attn=True, gated_attn=True, rope_type="split")
    return model, {
        **video(),
        "audio_hidden_states": torch.randn(2, 4, 4),
        "audio_encoder_hidden_states": torch.randn(2, 6, 16),
        "audio_encoder_attention_mask": WORDS,
        "audio_num_frames": 4,
    }


GRID = "image 18 (3x2x3)"
HOSTS = (
    Host("ltx", ltx, GRID),
    Host("ltx_references", ltx_references, f"reference1 6 (1x2x3) | {GRID}"),
    Host("ltx2", ltx2, GRID),
)
