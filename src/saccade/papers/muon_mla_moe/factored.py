"""Latent attention out of plain attention: the keys' and values' matrix as a product of two thinner ones."""

from typing import Any

import torch
from torch import Tensor

from saccade.nn.attention import SelfAttention
from saccade.papers.muon_mla_moe.latent_attention import LatentAttention


@torch.no_grad()
def latent_from(attention: SelfAttention, latent: int, **options: Any) -> LatentAttention:
    """The nearest latent attention without norm or places, by singular values of [W_K; W_V]; exact at full rank.

    Attention with rotary positions has no such form: its keys turn in all channels, latents do not.
    Raises ValueError for attention with positions, norms or biases, and for a latent out of range.
    """
    if attention.rotary or attention.qkv.bias is not None or not isinstance(attention.norm_q, torch.nn.Identity):
        raise ValueError("attention must be 'attention(bias=False)', without rotary, qk_norm or biases, to be factored")
    query, key, value = attention.qkv.weight.chunk(3)
    options |= {"head_dim": attention.head_dim, "rope_dim": 0, "norm": False}
    made = LatentAttention(attention.qkv.in_features, attention.heads, latent=latent, **options).to(query)
    up, down = _factored(torch.cat((key, value)), latent)
    found = {"query": query, "down": down, "out": attention.out.weight}
    found |= dict(zip(("up_key", "up_value"), up.chunk(2), strict=True))
    made.load_state_dict({f"{name}.weight": weight for name, weight in found.items()})
    return made


def _factored(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """(m, rank) and (rank, n), their product nearest to the weight; each has half of the singular values."""
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    root = values[:rank].sqrt()
    return (left[:, :rank] * root).to(weight), (root[:, None] * right[:rank]).to(weight)
