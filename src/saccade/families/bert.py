"""Encoders that see both ways, BERT, RoBERTa and ModernBERT: classifiers, and mask predictors of diffusion LMs."""

from typing import Any

from torch import Tensor

from saccade.core.site import Site
from saccade.families.llama import NO_ROTARY
from saccade.families.text_tokens import cache_span, ordered, text
from saccade.seam.family import Family

LEARNED = "positions are added once at the entrance; use a bias by place where you would turn q and k"


def _project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    k, v = (
        linear(x).unflatten(-1, (-1, module.attention_head_size)).transpose(1, 2)
        for linear in (module.key, module.value)
    )
    return k, v


def _fused(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    _, k, v = module.Wqkv(x).unflatten(-1, (3, -1, module.head_dim)).transpose(1, 3).unbind(2)
    return k, v


def _enter(block: Any, site: Site, tokens: Tensor, condition: object) -> Tensor:
    """Attention reads the stream itself: norms come after it."""
    return tokens


def _normed(block: Any, site: Site, tokens: Tensor, condition: object) -> Tensor:
    return block.attn_norm(tokens)


BERT = Family(
    name="BERT",
    library="transformers",
    classes=("BertForMaskedLM", "BertModel", "RobertaForMaskedLM", "RobertaModel"),
    sites={"*encoder.layer.*.attention.self": "self"},
    layout=text,
    text="only",
    grid="none",
    padding="attention_mask",
    project=_project,
    enter=_enter,
    unsupported={"rotary": LEARNED},
    main_input="input_ids",
    bind="interface",
    cache_span=cache_span,
    ordered=ordered,
)

MODERN_BERT = Family(
    name="ModernBERT",
    library="transformers",
    classes=("ModernBertForMaskedLM", "ModernBertModel"),
    sites={"layers.*.attn": "self", "model.layers.*.attn": "self"},
    layout=text,
    text="only",
    grid="none",
    padding="attention_mask",
    project=_fused,
    enter=_normed,
    unsupported={"rotary": NO_ROTARY, "raw": NO_ROTARY},
    main_input="input_ids",
    bind="interface",
    cache_span=cache_span,
    ordered=ordered,
)
