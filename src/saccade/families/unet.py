"""The U-Net of Stable Diffusion: grids halve from block to block."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes

CONVOLVED = "its convolutions tell places, attention turns nothing; use a bias by place (FlashBias) instead"


def _halvings(model: Any, name: str) -> int:
    """How often the latents' grid was halved where a site stands."""
    blocks, (part, *rest) = len(model.config.block_out_channels), name.split(".")
    number = int(rest[0]) if part != "mid_block" else 0
    return {"down_blocks": number, "mid_block": blocks - 1, "up_blocks": blocks - 1 - number}[part]


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    sides = inputs["sample"].shape[-2:]
    for _ in range(_halvings(model, site.name)):
        sides = tuple(-(-side // 2) for side in sides)
    image = Layout.image_only((1, *sides))
    return (
        (image, Layout.plain(inputs["encoder_hidden_states"].shape[1]))
        if site.kind == "cross"
        else joint_layouts(image)
    )


UNET = Family(
    name="U-Net",
    classes=("UNet2DConditionModel",),
    sites={"*.attn1": "self", "*.attn2": "cross"},
    layout=_layout,
    by_site=True,
    routes=diffusers_routes,
    main_input="sample",
    text="apart",
    padding="encoder_attention_mask",
    unsupported={"rotary": CONVOLVED, "stream": NO_BLOCK, "enter": NO_BLOCK},
    project=project_heads,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
