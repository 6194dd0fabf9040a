"""LLaVA: text with pictures of one size, each a square grid of patches; the vision tower is another model inside."""

from itertools import repeat
from typing import Any

from saccade.core.site import SiteKind
from saccade.hosts.family import Family, Inputs, Layouts
from saccade.hosts.transformers.llama import NO_ROTARY, enter, project
from saccade.hosts.transformers.pictures import layouts
from saccade.hosts.transformers.qwen2_vl import TOWER
from saccade.hosts.transformers.tokens import extent, ordered


def _layout(model: Any, inputs: Inputs, kind: SiteKind) -> Layouts:
    vision = model.config.vision_config
    side = vision.image_size // vision.patch_size
    return layouts(inputs, {"image": model.config.image_token_id}, {"image": repeat((1, side, side))})


LLAVA = Family(
    name="LLaVA",
    classes=("LlavaForConditionalGeneration", "LlavaModel"),
    sites={"*language_model.layers.*.self_attn": "self"},
    bypass={"*vision_tower.*.self_attn": TOWER},
    layout=_layout,
    project=project,
    enter=enter,
    lacks={"rotary": NO_ROTARY, "raw": NO_ROTARY},
    main_input="input_ids",
    text="among",
    padding="attention_mask",
    whole=False,
    bind="interface",
    extent=extent,
    ordered=ordered,
)
