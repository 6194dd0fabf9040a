"""Tiny models that attend by torch's flex attention, under block masks of their own."""

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask

from tests.hosts.host import Host

FAR = {
    "patch_size": (1, 2, 2), "compressed_patch_size": (1, 4, 4), "num_attention_heads": 2, "attention_head_dim": 16,
    "in_channels": 4, "out_channels": 4, "text_dim": 16, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2,
    "rope_max_seq_len": 32, "full_chunk_limit": 2,
}  # fmt: skip
CHUNKS = [1, 2, 2]  # frames


def anyflow_far() -> tuple[nn.Module, dict[str, Any]]:
    """The last of three chunks is made: the first is cached in coarse patches, the second in full ones."""
    from diffusers import AnyFlowFARTransformer3DModel

    room = {"full_cache": 2 * 2 * 24, "compressed_cache": 2 * 6}  # tokens
    cache = [{name: torch.randn(2, 2, 2, n, 16) for name, n in room.items()} for _ in range(2)]
    return AnyFlowFARTransformer3DModel(**FAR), {
        **far(torch.randn(2, 2, 4, 8, 12), CHUNKS),
        "kv_cache": cache,
        "kv_cache_flag": {"num_cached_chunks": 2, "is_cache_step": False},
    }


def anyflow_far_train() -> tuple[nn.Module, dict[str, Any]]:
    """All three chunks at once, the first in coarse patches, with clean copies of the others."""
    from diffusers import AnyFlowFARTransformer3DModel

    model, latents = AnyFlowFARTransformer3DModel(**FAR), torch.randn(2, 5, 4, 8, 12)
    mask = model.build_attention_mask(chunk_partition=CHUNKS, height=8, width=12, has_clean_context=True)
    clean = {"clean_hidden_states": torch.randn(2, 4, 4, 8, 12), "clean_timestep": torch.zeros(2, 4)}
    return model, {**far(latents, CHUNKS), **clean, "attention_mask": mask}


def far(latents: Tensor, chunks: list[int]) -> dict[str, Any]:
    times = torch.full(latents.shape[:2], 500.0)
    return {
        "hidden_states": latents, "timestep": times, "r_timestep": times - 100, "chunk_partition": chunks,
        "encoder_hidden_states": torch.randn(2, 6, 16), "return_dict": False,
    }  # fmt: skip


def wan_animate2(layers: int = 2) -> tuple[nn.Module, dict[str, Any]]:
    """A reference picture and two frames, which follow two frames of another video."""
    from diffusers import WanAnimate2Transformer3DModel
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    model = WanAnimate2Transformer3DModel(
        text_len=6, in_dim=8, dim=32, ffn_dim=32, freq_dim=16, text_dim=16, out_dim=4, num_heads=2, num_layers=layers
    )
    uncompiled(model, frames=2, tokens=6)
    cache = WanAnimate2KVCache(layers)
    for layer in cache.layer_caches:
        layer.store(*torch.randn(2, 2, 12, 2, 16))
    return model, {
        "hidden_states": list(torch.randn(2, 4, 3, 4, 6)),
        "condition_latents": list(torch.randn(2, 4, 3, 4, 6)),
        "encoder_hidden_states": [torch.randn(6, 16), torch.randn(4, 16)],
        "encoder_hidden_states_image": torch.randn(2, 3, 1280),
        "timestep": torch.tensor([500.0, 500.0]),
        "kv_cache": cache,
        "kv_cache_mode": "cached",
        "seq_len": 18,
        "reference_grid_sizes": torch.tensor([[2, 2, 3]] * 2),
        "origin_len": 5,
        "origin_area": [32, 48],
        "return_dict": False,
    }


def uncompiled(model: nn.Module, frames: int, tokens: int) -> None:
    """Make the model's mask beforehand, by its own code, which would compile what makes it."""
    from diffusers.models.transformers import transformer_wan_animate_2 as module

    def plainly(*args: Any, **kwargs: Any) -> Any:
        return create_block_mask(*args, **{**kwargs, "_compile": False})

    with patch.object(module, "create_block_mask", plainly):
        model.block_masks[frames, tokens] = model.create_mask(frames, tokens, torch.device("cpu"))


def kandinsky6_sr(threshold: float = 0.4) -> tuple[nn.Module, dict[str, Any]]:
    """Two frames of 8 x 24 tokens: six tiles, of which each reads those it scores best, and itself."""
    from diffusers import Kandinsky6SRTransformer3DModel

    model = Kandinsky6SRTransformer3DModel(
        in_visual_dim=2, out_visual_dim=2, time_dim=16, model_dim=32, ff_dim=32, num_visual_blocks=2,
        axes_dims=(4, 6, 6), nabla_threshold=threshold, nabla_window=(1, 1, 1), tile_sizes=((16, 48),),
    )  # fmt: skip
    return model, {
        "hidden_states": torch.randn(2, 2, 8, 24, 5),
        "timestep": torch.tensor([500.0, 500.0]),
        "return_dict": False,
    }


HOSTS = (
    Host("anyflow_far", anyflow_far, "image 48 (2x4x6) | padding 80"),
    Host(
        "anyflow_far_train", anyflow_far_train,
        "history_coarse 6 (1x2x3) | image 96 (4x4x6) | clean 96 (4x4x6) | padding 58",
    ),
    Host("wan_animate2", wan_animate2, "reference1 6 (1x2x3) | image 12 (2x2x3) | padding 110"),
    Host("kandinsky6_sr", kandinsky6_sr, "image 384 (2x8x24)", chooses=True),
)  # fmt: skip
