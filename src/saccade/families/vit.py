"""Vision transformers of transformers: class, distillation and register tokens first, then one grid of patches."""

from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.bert import LEARNED
from saccade.families.llama import decoder, heads_of
from saccade.seam.family import Inputs, Layouts, joint_layouts

PREFIX = ("cls_token", "class_embedding", "distillation_token", "register_tokens")
ROTATED = "patches are rotated by tables the model makes itself, prefix tokens not; edit q and k as they come"
POOLING = "pooling: one learned query reads the finished tokens"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    given, size = inputs["pixel_values"].shape[-2:], model.config.patch_size
    height, width = (n // p for n, p in zip(given, (size, size) if isinstance(size, int) else size, strict=True))
    found = (p.numel() for name, p in model.named_parameters() if name.rpartition(".")[2] in PREFIX)
    before = sum(found) // model.config.hidden_size
    prefix = (Segment("prefix", "extra", before),) if before else ()
    return joint_layouts(Layout((*prefix, Segment("image", "image", height * width, (1, height, width)))))


def _encoder(**given: Any) -> Any:
    common: dict[str, Any] = {
        "layout": _layout, "text": "none", "grid": "image", "padding": None, "main_input": "pixel_values",
        "cache_span": lambda inputs, site: None, "ordered": lambda module, inputs: False,
    }  # fmt: skip
    return decoder(**{**common, **given})


VISION = _encoder(
    name="ViT",
    classes=(
        *heads_of("ViT", "DeiT", "Dinov2", "Dinov2WithRegisters", "IJepa", "ViTMSN"), "CLIPVisionModel",
        "CLIPVisionModelWithProjection", "SiglipVisionModel",
    ),
    sites={"*layers.*.self_attn": "self", "*layers.*.attention": "self", "*encoder.layer.*.attention": "self"},
    left_alone={"*head.attention": POOLING},
    unsupported={"rotary": LEARNED},
)  # fmt: skip

DINOV3 = _encoder(
    name="DINOv3",
    classes=heads_of("DINOv3ViT"),
    sites={"*layer.*.attention": "self"},
    unsupported={"rotary": ROTATED, "raw": ROTATED},
)
