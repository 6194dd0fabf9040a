"""PixArt and DiT: image self-attention, and in PixArt cross-attention to the caption. No rotary."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.sd3 import NO_ROTARY
from saccade.seam.family import Family, Guidance, Inputs, Layouts, image_grid, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes

NO_BLOCK = "its blocks mix norm and modulation inline; use hidden, or a hook of your own"
INLINE = {"stream": NO_BLOCK, "enter": NO_BLOCK}


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    image = Layout.image_only(image_grid(model, inputs))
    return (
        (image, Layout.plain(inputs["encoder_hidden_states"].shape[1]))
        if site.kind == "cross"
        else joint_layouts(image)
    )


PIXART = Family(
    name="PixArt",
    classes=("PixArtTransformer2DModel",),
    sites={"transformer_blocks.*.attn1": "self", "transformer_blocks.*.attn2": "cross"},
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    padding="encoder_attention_mask",
    unsupported={"rotary": NO_ROTARY, **INLINE},
    project=project_heads,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)

DIT = Family(
    name="DiT",
    classes=("DiTTransformer2DModel",),
    sites={"transformer_blocks.*.attn1": "self"},
    layout=_layout,
    routes=diffusers_routes,
    text="none",
    unsupported={"rotary": NO_ROTARY, **INLINE},
    project=project_heads,
    guidance=Guidance(roles=("cond", "uncond"), stacked=True),
)
