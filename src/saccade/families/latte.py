"""Latte: blocks within frames, rows (batch x frames), and blocks through time, rows (batch x places)."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.families.sd3 import NO_ROTARY
from saccade.families.unet_video import temporal
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, project_heads
from saccade.seam.routes import diffusers_routes


def _grid(model: Any, inputs: Inputs) -> tuple[int, int, int]:
    frames, *sides = inputs["hidden_states"].shape[-3:]
    height, width = (side // model.config.patch_size for side in sides)
    return frames, height, width


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    frames, height, width = _grid(model, inputs)
    image = Layout.image_only((frames, 1, 1) if temporal(site) else (1, height, width))
    return apart_layouts(image, inputs["encoder_hidden_states"].shape[1], site)


def _fold(model: Any, inputs: Inputs, site: Site) -> int:
    frames, height, width = _grid(model, inputs)
    return height * width if temporal(site) else frames


LATTE = Family(
    name="Latte",
    classes=("LatteTransformer3DModel",),
    sites={
        "transformer_blocks.*.attn1": "self",
        "transformer_blocks.*.attn2": "cross",
        "temporal_transformer_blocks.*.attn1": "self",
    },
    layout=_layout,
    by_site=True,
    fold=_fold,
    folded=("encoder_attention_mask",),
    skipped=lambda model, inputs, site: temporal(site) and not inputs.get("enable_temporal_attentions", True),
    routes=diffusers_routes,
    text="apart",
    grid="video",
    project=project_heads,
    unsupported={"rotary": NO_ROTARY, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
