"""Attention and experts agree with DeepSeek-V3's in transformers, whose weights they take."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
    DeepseekV3Attention,
    DeepseekV3MoE,
    DeepseekV3RotaryEmbedding,
)

from saccade.nn.moe import MoE
from saccade.nn.part import TokenPositions
from saccade.papers.muon_mla_moe.latent_attention import LatentAttention

WIDTH, HEADS, LATENT, ROPE, HEAD, QUERY = 24, 3, 10, 4, 8, 12


def _config(query_latent: int | None) -> DeepseekV3Config:
    return DeepseekV3Config(
        hidden_size=WIDTH, num_attention_heads=HEADS, num_key_value_heads=HEADS, kv_lora_rank=LATENT,
        q_lora_rank=query_latent, qk_rope_head_dim=ROPE, qk_nope_head_dim=HEAD, v_head_dim=HEAD, vocab_size=8,
        num_hidden_layers=1, n_routed_experts=6, num_local_experts=6, num_experts_per_tok=2, n_group=1, topk_group=1,
        n_shared_experts=2, moe_intermediate_size=7, norm_topk_prob=True, routed_scaling_factor=1.0,
        attn_implementation="eager",
    )  # fmt: skip


def _random(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.3)
    return module.double().eval()


def _split(weight: Tensor, *sizes: int) -> tuple[Tensor, ...]:
    """The rows of every head, shared out."""
    parts = weight.unflatten(0, (HEADS, -1)).split(sizes, dim=1)
    return tuple(part.flatten(0, 1) for part in parts)


def test_attention() -> None:
    for query_latent in (None, QUERY):
        config = _config(query_latent)
        theirs: Any = _random(DeepseekV3Attention(config, 0))
        ours = LatentAttention(
            WIDTH, HEADS, latent=LATENT, rope_dim=ROPE, head_dim=HEAD, query_latent=query_latent
        ).double()  # fmt: skip
        query = theirs.q_proj if query_latent is None else theirs.q_b_proj
        found = dict(zip(("query", "rope_query"), _split(query.weight, HEAD, ROPE), strict=True))
        found |= dict(zip(("up_key", "up_value"), _split(theirs.kv_b_proj.weight, HEAD, HEAD), strict=True))
        found |= dict(zip(("down", "rope_key"), theirs.kv_a_proj_with_mqa.weight.split((LATENT, ROPE)), strict=True))
        found |= {"norm": theirs.kv_a_layernorm.weight, "out": theirs.o_proj.weight}
        if query_latent is not None:
            found |= {"query_down": theirs.q_a_proj.weight, "query_norm": theirs.q_a_layernorm.weight}
        ours.load_state_dict({f"{name}.weight": weight for name, weight in found.items()})
        x, tokens = torch.randn(2, 5, WIDTH, dtype=torch.float64), torch.arange(5)[None]
        turns = DeepseekV3RotaryEmbedding(config)(x, tokens)
        mask = torch.full((5, 5), float("-inf")).triu(1)[None, None].double()
        wanted = theirs(x, turns, mask)[0]
        torch.testing.assert_close(ours(x, TokenPositions(causal=True)).out, wanted, rtol=0, atol=1e-6)


def test_experts_with_offsets_in_the_choice() -> None:
    theirs: Any = _random(DeepseekV3MoE(_config(None)))
    theirs.gate.e_score_correction_bias.copy_(torch.tensor([0.4, -0.3, 0.0, 0.1, -0.1, 0.2]))
    ours = MoE(
        WIDTH, experts=6, top=2, shared=14 / WIDTH, hidden=7, norm_topk=True, scores="sigmoid", offset_rate=1e-3,
        balance=0,
    ).double()  # fmt: skip
    gate, up = theirs.experts.gate_up_proj.chunk(2, dim=1)
    found = {"experts.gate.weight": gate, "experts.up.weight": up, "experts.down.weight": theirs.experts.down_proj}
    found |= {
        f"shared.{layer}.weight": getattr(theirs.shared_experts, f"{layer}_proj").weight
        for layer in ("gate", "up", "down")
    }
    found |= {"router.gate.weight": theirs.gate.weight, "router.offset": theirs.gate.e_score_correction_bias}
    ours.load_state_dict(found | {"router.load": torch.zeros(6, dtype=torch.long)})
    x = torch.randn(2, 9, WIDTH, dtype=torch.float64)
    torch.testing.assert_close(ours(x, TokenPositions()).out, theirs(x), rtol=0, atol=1e-6)
    ours.router.offset.zero_()
    assert not torch.allclose(ours(x, TokenPositions()).out, theirs(x), atol=1e-3)
