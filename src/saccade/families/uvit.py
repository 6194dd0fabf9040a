"""aMUSEd's U-ViT: tokens of a code book between two convolutional blocks, whose attention reads the text only."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.families.unet import NO_PLACES
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, project_heads
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    halved = model.down_block.downsample is not None
    height, width = (-(-side // 2) if halved else side for side in inputs["input_ids"].shape[-2:])
    return apart_layouts(Layout.image_only((1, height, width)), inputs["encoder_hidden_states"].shape[1], site)


UVIT = Family(
    name="U-ViT",
    classes=("UVit2DModel",),
    sites={
        "*_block.attention_blocks.*.attn?": "cross",
        "transformer_layers.*.attn1": "self",
        "transformer_layers.*.attn2": "cross",
    },
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    project=project_heads,
    unsupported={"rotary": NO_PLACES, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
    main_input="input_ids",
)
