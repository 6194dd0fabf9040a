"""Tiny random CogVideoX transformers and inputs of three scenes: captions of four tokens, clips of two frames."""

from pathlib import Path
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from safetensors.torch import load_file
from torch import Tensor

SCENES, TEXT, FRAMES, SIDE = 3, 4, 2, 4
CLIP = FRAMES * (SIDE // 2) ** 2  # video tokens of a scene
ALL_TEXT, ALL_VIDEO = SCENES * TEXT, SCENES * CLIP
FILE = Path(__file__).parents[2] / "goldens" / "mask2dit" / "case_rope_three_scenes.safetensors"


def golden() -> dict[str, Tensor]:
    """Everything stored, as single precision where it is real."""
    found = load_file(FILE)
    return {k: v.float() if v.is_floating_point() or "float8" in str(v.dtype) else v for k, v in found.items()}


def transformer(layers: int = 2, *, in_channels: int = 4, **options: Any) -> CogVideoXTransformer3DModel:
    """Of the golden's sizes; by default with rotary tables."""
    given = {"use_rotary_positional_embeddings": True, "use_learned_positional_embeddings": False, **options}
    return CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=in_channels, out_channels=in_channels,
        time_embed_dim=16, text_embed_dim=12, num_layers=layers, sample_width=SIDE, sample_height=SIDE,
        sample_frames=5, patch_size=2, temporal_compression_ratio=4, max_text_seq_length=TEXT, **given,
    ).eval()  # fmt: skip


def model(layers: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> Any:
    """Random weights, gates and modulation included."""
    torch.manual_seed(seed)
    found = transformer(layers, **options)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found.to(dtype)


def inputs(dtype: torch.dtype = torch.float64, rows: int = 2, seed: int = 1) -> dict[str, Any]:
    """Of a forward."""
    g = torch.Generator().manual_seed(seed)
    angles = torch.randn(ALL_VIDEO, 8, generator=g).repeat_interleave(2, dim=1)
    return {
        "hidden_states": torch.randn(rows, SCENES * FRAMES, 4, SIDE, SIDE, generator=g).to(dtype),
        "encoder_hidden_states": torch.randn(rows, ALL_TEXT, 12, generator=g).to(dtype),
        "timestep": torch.tensor([400, 401][:rows]),
        "image_rotary_emb": (angles.cos(), angles.sin()),
        "return_dict": False,
    }


def changed(given: dict[str, Any], *, text: int | None = None, clip: int | None = None) -> dict[str, Any]:
    """Other numbers in the caption and in the clip of these scenes."""
    found = {key: x.clone() if isinstance(x, Tensor) else x for key, x in given.items()}
    if text is not None:
        found["encoder_hidden_states"][:, TEXT * text : TEXT * (text + 1)] += 1.5
    if clip is not None:
        found["hidden_states"][:, FRAMES * clip : FRAMES * (clip + 1)] += 1.5
    return found


def of_clip(out: Tensor, clip: int) -> Tensor:
    """Latents of one scene."""
    return out[:, FRAMES * clip : FRAMES * (clip + 1)]
