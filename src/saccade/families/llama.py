"""Llama and its kin: decoder-only language models with a self-attention in every layer, causal or, as LLaDA, not.

A kin is known by the class all its heads derive from. What differs among them is read off the module: shared keys,
norms of k, windows, sinks, layers that hold something else than attention.
"""

from typing import Any

from torch import Tensor, nn

from saccade.core.site import Site
from saccade.families.text_tokens import cache_span, ordered, text
from saccade.seam.family import Family

NO_ROTARY = "positions may differ by row and keys outlive a forward in the cache; edit q and k as they come, rotated"
LINEAR = "linear attention has no map of pairs; it is left alone"
NORMS = (  # before attention
    "input_layernorm", "attention_layernorm", "operator_norm", "ln_attn", "ln_1", "layer_norm", "layer_norm1",
    "layernorm_before", "norm1",
)  # fmt: skip
KIN = (
    "Llama", "Mistral", "Qwen2", "Qwen3", "Qwen2Moe", "Qwen3Moe", "Qwen3Next", "Mixtral", "Gemma", "Gemma2", "Phi",
    "Phi3", "Phimoe", "Olmo", "Olmo2", "Olmo3", "Olmoe", "StableLm", "Cohere", "Cohere2", "Granite", "GraniteMoe",
    "SmolLM3", "GptOss", "Starcoder2", "Glm", "Glm4", "Glm4Moe", "Ernie4_5", "Ernie4_5_Moe", "Exaone4", "SeedOss",
    "Nemotron", "Apertus", "Arcee", "BitNet", "Helium", "MiniMaxM2", "Ministral", "Ministral3",
    "Lfm2", "Dots1",
)  # fmt: skip
TEXTS = tuple(  # of kin that read pictures too
    name + head for name in ("Gemma3", "Llama4", "Qwen3_5", "Qwen3_5Moe") for head in ("ForCausalLM", "TextModel")
)


def project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """k and v by their projections, k by its norm where there is one: (b p c) -> (b hk p d)."""
    k, v = _projected(module, x)
    norm = next((getattr(module, name) for name in ("k_norm", "qk_norm") if hasattr(module, name)), nn.Identity())
    if (weight := getattr(norm, "weight", None)) is not None and weight.shape == k.shape[-1:]:
        k, norm = norm(k), nn.Identity()  # across heads
    k, v = (t.unflatten(-1, (-1, module.head_dim)) for t in (k, v))
    k = norm(k).transpose(1, 2)
    return (module.k_layernorm(k) if hasattr(module, "k_layernorm") else k), v.transpose(1, 2)


def _projected(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    if hasattr(module, "qkv_proj"):
        width = module.config.num_key_value_heads * module.head_dim
        return module.qkv_proj(x)[..., -2 * width :].chunk(2, dim=-1)
    clip = getattr(module.config, "clip_qkv", None)
    k, v = module.k_proj(x), module.v_proj(x)
    return (k, v) if clip is None else (k.clamp(-clip, clip), v.clamp(-clip, clip))


def enter(block: Any, site: Site, tokens: Tensor, condition: object) -> Tensor:
    """Stream tokens through the norm before attention; itself where norms come after."""
    return next((getattr(block, name)(tokens) for name in NORMS if hasattr(block, name)), tokens)


def soft_capped(module: Any) -> str | None:
    """Why the scores of a module cannot be followed; None where they are no more than products."""
    cap = getattr(module, "attn_logit_softcapping", None)
    if cap is None:
        return None
    return (
        f"attn_logit_softcapping={cap} bends its scores, which no kernel here follows; load the model with "
        "attn_logit_softcapping=None, as sdpa needs it, if the small difference may be"
    )


def heads_of(*kin: str) -> tuple[str, ...]:
    """The classes from which all heads of these kin derive."""
    return tuple(f"{name}PreTrainedModel" for name in kin)


def decoder(**given: Any) -> Family:
    """A family whose text goes through layers of Llama's make, save what is given."""
    common: dict[str, Any] = {
        "library": "transformers", "layout": text, "text": "only", "grid": "none", "main_input": "input_ids",
        "padding": "attention_mask", "bind": "interface", "cache_span": cache_span, "ordered": ordered,
        "project": project, "enter": enter, "unsupported": {"rotary": NO_ROTARY, "raw": NO_ROTARY},
        "unseen": soft_capped,
    }  # fmt: skip
    return Family(**{**common, **given})


LLAMA = decoder(
    name="Llama",
    classes=(*heads_of(*KIN), *TEXTS),
    sites={"layers.*.self_attn": "self", "model.layers.*.self_attn": "self"},
    left_alone={"*layers.*.linear_attn": LINEAR},
)
