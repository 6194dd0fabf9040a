"""LLaVA and its kin: text with pictures of one size, each a square grid; the vision tower is another model inside."""

from dataclasses import replace
from itertools import repeat
from math import isqrt
from typing import Any

from saccade.core.site import Site
from saccade.families.llama import decoder
from saccade.families.picture_tokens import layouts
from saccade.families.qwen2_vl import TOWER
from saccade.seam.family import Inputs, Layouts


def side_of(config: Any) -> int:
    """Tokens along one side of a picture: its patches, or fewer where a config says that they are pooled or joined."""
    if (pooled := getattr(config, "mm_tokens_per_image", None)) is not None:
        return isqrt(pooled)
    size, patch = (n if isinstance(n, int) else n[0] for n in _sizes(config.vision_config))
    return int(size // patch * getattr(config, "downsample_ratio", 1))


def generative(*kin: str) -> tuple[str, ...]:
    """The classes of kin that write text, whole and without a head."""
    return tuple(f"{name}{head}" for name in kin for head in ("ForConditionalGeneration", "Model"))


def _sizes(vision: Any) -> tuple[Any, Any]:
    return vision.image_size, vision.patch_size


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    side = side_of(model.config)
    return layouts(inputs, site, {"image": model.config.image_token_id}, {"image": repeat((1, side, side))})


LLAVA = decoder(
    name="LLaVA",
    classes=generative("Llava", "VipLlava", "InternVL"),
    sites={"*language_model.layers.*.self_attn": "self"},
    left_alone={"*vision_tower.*.self_attn": TOWER, "*vision_tower.*.attention": TOWER},
    layout=_layout,
    text="among",
    grid="image",
    whole=False,
)

GEMMA3 = replace(  # whose pictures see themselves both ways
    LLAVA,
    name="Gemma 3 with pictures",
    classes=generative("Gemma3", "PaliGemma"),
    ordered=lambda module, inputs: False,
)
