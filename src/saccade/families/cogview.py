"""CogView 3 Plus, CogView 4 and GLM-Image: text first, then the image; one projection for both."""

from dataclasses import replace
from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.families.sd3 import NO_ROTARY
from saccade.seam.family import Family, Guidance, Inputs, Layouts, image_grid, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes

FAR_PAIRS = "its rotary turns channels that are no neighbours; edit q and k as they come, rotated"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    text = inputs["encoder_hidden_states"].shape[1]
    return joint_layouts(Layout.joint(text=text, grid=image_grid(model, inputs)))


def _after_references(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """GLM-Image reads reference pictures beforehand; their keys come first, and their grids are known no more."""
    layout, _ = _layout(model, inputs, site)
    cache = inputs.get("kv_caches")
    if cache is None or cache[0].mode != "read" or not cache[0].k_caches:
        return joint_layouts(layout)
    kept = Segment("references", "extra", cache[0].k_caches[0].shape[1])
    return layout, Layout((kept, *layout.segments))


def _no_mask(inputs: Inputs) -> None:
    if inputs.get("attention_mask") is not None:
        raise ValueError(
            "attention_mask would hide nothing: the processor adds its zeros and ones to the scores; leave it out and "
            "attach a system that plans the mask, as KeyPadding"
        )


def _reads_references(inputs: Inputs) -> bool:
    cache = inputs.get("kv_caches")
    return cache is not None and cache[0].mode == "write"


COGVIEW3_PLUS = Family(
    name="CogView 3 Plus",
    classes=("CogView3PlusTransformer2DModel",),
    sites={"transformer_blocks.*.attn1": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    unsupported={"rotary": NO_ROTARY, "stream": NO_BLOCK, "enter": NO_BLOCK},
    project=project_heads,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
COGVIEW4 = replace(
    COGVIEW3_PLUS,
    name="CogView 4",
    classes=("CogView4Transformer2DModel",),
    shared=("image_rotary_emb",),
    unsupported={"rotary": FAR_PAIRS, "raw": FAR_PAIRS, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    check=_no_mask,
)
GLM_IMAGE = replace(
    COGVIEW4,
    name="GLM-Image",
    classes=("GlmImageTransformer2DModel",),
    layout=_after_references,
    aside=_reads_references,
    time_offset=1,
)
