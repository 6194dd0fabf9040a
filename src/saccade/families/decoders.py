"""Decoders of other makes than Llama's: the first GPTs and their kin, and latent attention."""

from typing import Any

from torch import Tensor

from saccade.core.site import Site
from saccade.families.bert import LEARNED
from saccade.families.llama import NO_ROTARY, decoder, heads_of
from saccade.seam.routes import torch_routes

LATENT = "k and v are opened from one latent that all heads share, rotary apart; take them from the call"


def _split(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    _, k, v = (t.unflatten(-1, (-1, module.head_dim)).transpose(1, 2) for t in module.c_attn(x).chunk(3, dim=-1))
    return k, v


def _interleaved(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    fused = module.query_key_value(x).unflatten(-1, (-1, 3 * module.head_size)).transpose(1, 2)
    _, k, v = fused.chunk(3, dim=-1)
    return k, v


def _by_group(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    _, k, v = (t.transpose(1, 2) for t in module._split_heads(module.query_key_value(x)))
    return k, v


def _before(block: Any, site: Site, tokens: Tensor, condition: object) -> Tensor:
    return block.self_attn_layer_norm(tokens) if block.do_layer_norm_before else tokens


def _by_hand(module: Any) -> str | None:
    """Falcon asks no interface; only its sdpa makes a call."""
    name = module.config._attn_implementation
    return None if name == "sdpa" else (
        f"attn_implementation='{name}' multiplies q, k and v by hand; load the model with attn_implementation='sdpa'"
    )  # fmt: skip


GPT2 = decoder(
    name="GPT-2",
    classes=heads_of("GPT2"),
    sites={"h.*.attn": "self", "transformer.h.*.attn": "self"},
    project=_split,
    unsupported={"rotary": LEARNED},
)

GPT_NEOX = decoder(
    name="GPT-NeoX",
    classes=heads_of("GPTNeoX"),
    sites={"layers.*.attention": "self", "gpt_neox.layers.*.attention": "self"},
    project=_interleaved,
)

OPT = decoder(
    name="OPT",
    classes=heads_of("OPT"),
    sites={"decoder.layers.*.self_attn": "self", "model.decoder.layers.*.self_attn": "self"},
    enter=_before,
    unsupported={"rotary": LEARNED},
)

FALCON = decoder(
    name="Falcon",
    classes=heads_of("Falcon"),
    sites={"h.*.self_attention": "self", "transformer.h.*.self_attention": "self"},
    project=_by_group,
    bind="methods",
    routes=torch_routes,
    unseen=_by_hand,
)

DEEPSEEK = decoder(
    name="DeepSeek",
    classes=heads_of("DeepseekV2", "DeepseekV3", "MiniCPM3", "Glm4MoeLite", "Youtu"),
    sites={"layers.*.self_attn": "self", "model.layers.*.self_attn": "self"},
    unsupported={"rotary": NO_ROTARY, "raw": NO_ROTARY, "project": LATENT},
)
