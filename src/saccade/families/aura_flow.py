"""AuraFlow: learned register tokens and text first, then the image. No rotary."""

from dataclasses import replace
from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.flux import FLUX
from saccade.families.sd3 import NO_ROTARY
from saccade.seam.family import Guidance, Inputs, Layouts, image_grid, joint_layouts


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    registers = Segment("registers", "extra", model.register_tokens.shape[1])
    layout = Layout.joint(text=inputs["encoder_hidden_states"].shape[1], grid=image_grid(model, inputs))
    return joint_layouts(Layout((registers, *layout.segments)))


AURA_FLOW = replace(
    FLUX,
    name="AuraFlow",
    classes=("AuraFlowTransformer2DModel",),
    sites={"joint_transformer_blocks.*.attn": "joint", "single_transformer_blocks.*.attn": "joint"},
    layout=_layout,
    shared=(),
    rotary=None,
    unsupported={"rotary": NO_ROTARY},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
