"""Krea 2: text first, padded, then the image in one stream; heads share keys, and places arrive as ids."""

from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.flux import flat, picture_segments
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, project_grouped
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    text = inputs["encoder_hidden_states"].shape[1]
    pictures = picture_segments(inputs["position_ids"], skip=text)
    return joint_layouts(Layout((Segment("text", "text", text), *pictures)))


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    rope = model.rotary_emb
    return Rotary(ids=flat(inputs["position_ids"]).float(), theta=rope.theta, axes_dim=tuple(rope.axes_dim))


KREA2 = Family(
    name="Krea 2",
    classes=("Krea2Transformer2DModel",),
    sites={"transformer_blocks.*.attn": "joint"},
    left_alone={"text_fusion.*.attn": "text reads text, or its own layers, before the joint blocks"},
    layout=_layout,
    routes=diffusers_routes,
    shared=("position_ids",),
    padding="encoder_attention_mask",
    rotary=_rotary,
    project=project_grouped,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_scale=1000,
)
