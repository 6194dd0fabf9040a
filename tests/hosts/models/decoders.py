"""Tiny language models of every kin known: one row for each, what its config has beyond the common sizes."""

from functools import partial
from importlib import import_module
from typing import Any

from tests.hosts.host import Host
from tests.hosts.stand_ins import Near
from tests.hosts.transformers.texts import LEFT, RIGHT, SHARED, Made, words

EXPERTS: dict[str, Any] = {"moe_intermediate_size": 16, "num_experts_per_tok": 2}
MANY, LOCAL, ROUTED = ({**EXPERTS, name: 4} for name in ("num_experts", "num_local_experts", "n_routed_experts"))
GROUPS = {**ROUTED, "n_group": 1, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1}
WINDOWS = {"sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]}
HEADS = {"head_dim": 8}
LATENT: dict[str, Any] = {
    "q_lora_rank": 16, "kv_lora_rank": 12, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 6,
    "num_key_value_heads": 4,
}  # fmt: skip
HYBRID = {
    **HEADS, **MANY, "layer_types": ["full_attention", "linear_attention"], "linear_num_value_heads": 2,
    "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "shared_expert_intermediate_size": 16,
}  # fmt: skip
KIN: dict[str, dict[str, Any]] = {
    "Mistral": {"sliding_window": 4},
    "Qwen2": {},
    "Qwen2Moe": {**MANY, "shared_expert_intermediate_size": 16},
    "Qwen3Moe": {**MANY, **HEADS},
    "Qwen3Next": HYBRID,
    "Qwen3_5": HYBRID,
    "Qwen3_5Moe": HYBRID,
    "Mixtral": LOCAL,
    "Gemma": HEADS,
    "Gemma2": {**HEADS, **WINDOWS, "attn_logit_softcapping": None},
    "Gemma3": {**HEADS, **WINDOWS},
    "Phi": {"qk_layernorm": True},
    "Phi3": {},
    "Phimoe": LOCAL,
    "Olmo": {"clip_qkv": 0.5},
    "Olmo2": {},
    "Olmo3": WINDOWS,
    "Olmoe": MANY,
    "StableLm": {"qk_layernorm": True},
    "Cohere": {"use_qk_norm": True},
    "Cohere2": WINDOWS,
    "Granite": {"attention_multiplier": 0.3},
    "GraniteMoe": LOCAL,
    "SmolLM3": {},
    "GptOss": {**HEADS, **LOCAL, **WINDOWS, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "Llama4": {**HEADS, **LOCAL, "attention_chunk_size": 4, "layer_types": ["chunked_attention", "full_attention"]},
    "Starcoder2": {},
    "Glm": HEADS,
    "Glm4": HEADS,
    "Glm4Moe": {**HEADS, **GROUPS},
    "Ernie4_5": {},
    "Ernie4_5_Moe": {**EXPERTS, "moe_num_experts": 4, "moe_k": 2},
    "Exaone4": WINDOWS,
    "SeedOss": HEADS,
    "Nemotron": {},
    "Apertus": {},
    "Arcee": {},
    "BitNet": {},
    "Helium": HEADS,
    "MiniMaxM2": {**HEADS, **LOCAL},
    "Ministral": HEADS,
    "Ministral3": HEADS,
    "Lfm2": {"layer_types": ["full_attention", "conv"]},
    "Dots1": {**HEADS, **GROUPS},
    "GPT2": {},
    "GPTNeoX": {},
    "OPT": {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "Falcon": {"multi_query": True},
    "DeepseekV2": {**LATENT, **GROUPS},
    "DeepseekV3": {**LATENT, **GROUPS},
    "MiniCPM3": LATENT,
    "Glm4MoeLite": {**LATENT, **GROUPS},
    "Youtu": LATENT,
}
TEXTS = ("Gemma3", "Llama4", "Qwen3_5", "Qwen3_5Moe")  # whose text model has a config of its own
EAGER = ("Gemma2",)  # that have no other attention


def decoder(kin: str, **more: Any) -> Made:
    """The language model of a kin with two layers, and two rows of words, one padded.

    At its beginning, where a query that sees no key is nothing: eager attention gives it the mean of all.
    """
    library = import_module("transformers")
    config = getattr(library, f"{kin}TextConfig" if kin in TEXTS else f"{kin}Config")
    model = getattr(library, f"{kin}LMHeadModel" if kin == "GPT2" else f"{kin}ForCausalLM")
    return model(config(**{**SHARED, **KIN[kin], **more})), {
        **words(RIGHT if kin in EAGER else LEFT),
        "use_cache": False,
    }


HOSTS = tuple(Host(kin.lower(), partial(decoder, kin), "text 10", Near(3), Near(1000)) for kin in KIN)
