"""Tiny models that attend by torch's flex attention, under block masks of their own."""

from typing import Any

import torch
from torch import Tensor, nn

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


HOSTS = (
    Host("anyflow_far", anyflow_far, "image 48 (2x4x6) | padding 80"),
    Host(
        "anyflow_far_train", anyflow_far_train,
        "history_coarse 6 (1x2x3) | image 96 (4x4x6) | clean 96 (4x4x6) | padding 58",
    ),
)  # fmt: skip
