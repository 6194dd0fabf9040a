"""Encoders of text, BERT and its kin, which see both ways: classifiers, and mask predictors of diffusion LMs.

CLIP's text encoder is among them though it is causal: it keeps no cache and adds positions at the entrance.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from saccade.core.site import Site
from saccade.families.llama import NO_ROTARY, decoder, heads_of

LEARNED = "positions are added once at the entrance; use a bias by place where you would turn q and k"
CROSS = "cross-attention of a decoder over another model's tokens, whose layout the arguments do not say; left alone"


def projected(key: str, value: str, width: str) -> Callable[[Any, Tensor], tuple[Tensor, Tensor]]:
    """k and v by the linears of these names, heads of the width an attribute says: (b p c) -> (b h p d)."""

    def project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        linears = getattr(module, key), getattr(module, value)
        k, v = (linear(x).unflatten(-1, (-1, getattr(module, width))).transpose(1, 2) for linear in linears)
        return k, v

    return project


def _fused(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    _, k, v = module.Wqkv(x).unflatten(-1, (3, -1, module.head_dim)).transpose(1, 3).unbind(2)
    return k, v


def stream_itself(block: Any, site: Site, tokens: Tensor, condition: object) -> Tensor:
    """Attention reads the stream itself: norms come after it."""
    return tokens


def _normed(block: Any, site: Site, tokens: Tensor, condition: object) -> Tensor:
    return block.attn_norm(tokens)


BERT = decoder(
    name="BERT",
    classes=heads_of("Bert", "Roberta", "XLMRoberta", "XLMRobertaXL", "Camembert", "Electra", "Ernie", "Data2VecText"),
    sites={"*encoder.layer.*.attention.self": "self"},
    left_alone={"*.crossattention.self": CROSS},
    project=projected("key", "value", "attention_head_size"),
    enter=stream_itself,
    unsupported={"rotary": LEARNED},
)

DISTILBERT = replace(
    BERT,
    name="DistilBERT",
    classes=heads_of("DistilBert"),
    sites={"*transformer.layer.*.attention": "self"},
    left_alone={},
    project=projected("k_lin", "v_lin", "attention_head_size"),
)

MODERN_BERT = decoder(
    name="ModernBERT",
    classes=heads_of("ModernBert"),
    sites={"layers.*.attn": "self", "model.layers.*.attn": "self"},
    project=_fused,
    enter=_normed,
    unsupported={"rotary": NO_ROTARY, "raw": NO_ROTARY},
)

CLIP_TEXT = decoder(
    name="CLIP text",
    classes=("CLIPTextModel", "CLIPTextModelWithProjection", "SiglipTextModel", "Siglip2TextModel"),
    sites={"*encoder.layers.*.self_attn": "self"},
    unsupported={"rotary": LEARNED},
)
