"""LLaVA: text with pictures of one size, each a square grid of patches; the vision tower is another model inside."""

from itertools import repeat
from typing import Any

from saccade.core.site import Site
from saccade.families.llama import decoder
from saccade.families.picture_tokens import layouts
from saccade.families.qwen2_vl import TOWER
from saccade.seam.family import Inputs, Layouts


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    vision = model.config.vision_config
    side = vision.image_size // vision.patch_size
    return layouts(inputs, site, {"image": model.config.image_token_id}, {"image": repeat((1, side, side))})


LLAVA = decoder(
    name="LLaVA",
    classes=("LlavaForConditionalGeneration", "LlavaModel"),
    sites={"*language_model.layers.*.self_attn": "self"},
    left_alone={"*vision_tower.*.self_attn": TOWER},
    layout=_layout,
    text="among",
    whole=False,
)
