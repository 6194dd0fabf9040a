"""Llama and its kin: decoder-only language models with a self-attention in every layer, causal or, as LLaDA, not."""

from typing import Any

from torch import Tensor

from saccade.core.site import Site
from saccade.families.text_tokens import cache_span, ordered, text
from saccade.seam.family import Family

NO_ROTARY = "positions may differ by row and keys outlive a forward in the cache; edit q and k as they come, rotated"


def project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """k and v by `k_proj`, `k_norm` where there is one, and `v_proj`: (b p c) -> (b hk p d)."""
    k, v = (linear(x).unflatten(-1, (-1, module.head_dim)) for linear in (module.k_proj, module.v_proj))
    k = module.k_norm(k) if hasattr(module, "k_norm") else k
    return k.transpose(1, 2), v.transpose(1, 2)


def enter(block: Any, site: Site, tokens: Tensor, condition: object) -> Tensor:
    """Stream tokens through the norm before attention."""
    return block.input_layernorm(tokens)


def decoder(**given: Any) -> Family:
    """A family whose text goes through layers of Llama's make."""
    return Family(
        library="transformers",
        project=project,
        enter=enter,
        unsupported={"rotary": NO_ROTARY, "raw": NO_ROTARY},
        main_input="input_ids",
        padding="attention_mask",
        bind="interface",
        cache_span=cache_span,
        ordered=ordered,
        **given,
    )


LLAMA = decoder(
    name="Llama",
    classes=tuple(kin + head for kin in ("Llama", "Mistral", "Qwen2", "Qwen3") for head in ("ForCausalLM", "Model")),
    sites={"layers.*.self_attn": "self", "model.layers.*.self_attn": "self"},
    layout=text,
    text="only",
    grid="none",
)
