"""The released code's weights, inputs and outputs at a tiny size."""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.papers.dit_mem import MemoryEncoder

FOLDER = Path(__file__).parents[2] / "goldens" / "dit-mem"
SIZES = {"dim": 24, "latent": (13, 20, 28), "channels": 2, "widths": (8, 12), "length": 6}


@cache
def stored(case: str) -> dict[str, Tensor]:
    """Everything, floats in single precision."""
    found = load_file(FOLDER / f"case_{case}.safetensors")
    return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}


def weights(case: str) -> dict[str, Tensor]:
    """Under the released names."""
    return {name.removeprefix("w/"): value for name, value in stored(case).items() if name.startswith("w/")}


def encoder() -> MemoryEncoder:
    """With the released weights."""
    made = MemoryEncoder(**SIZES)
    made.load_official(weights("encoder"))
    return made.eval()


def wan() -> Any:
    """The real class with the released weights, by diffusers' own names."""
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    model = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=10, freq_dim=16,
        ffn_dim=40, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    model.load_state_dict(convert_wan_transformer_to_diffusers(dict(weights("dit_with_memory"))))
    return model.eval()


def inputs() -> dict[str, Any]:
    """Of one forward."""
    found = stored("dit_with_memory")
    return {
        "hidden_states": found["in/latents"], "timestep": found["in/t"], "encoder_hidden_states": found["in/context"],
        "return_dict": False,
    }  # fmt: skip


def close(one: Tensor, two: Tensor) -> None:
    """Within the released code's own tolerance."""
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5 * float(two.abs().max()))
