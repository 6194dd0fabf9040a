"""Wan: self-attention over the video, cross-attention to the text; that to a first frame is left alone."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, grid_ids, joint_layouts, project_flat
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    shape = inputs["hidden_states"].shape[-3:]
    video = Layout.image_only(tuple(side // patch for side, patch in zip(shape, model.config.patch_size, strict=True)))
    return (
        (video, Layout.plain(inputs["encoder_hidden_states"].shape[1]))
        if site.kind == "cross"
        else joint_layouts(video)
    )


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    rope = model.rope
    ids = grid_ids(layout, inputs["hidden_states"].device)
    return Rotary(ids=ids, theta=10000.0, axes_dim=(rope.t_dim, rope.h_dim, rope.w_dim))


WAN = Family(
    name="Wan",
    classes=("WanTransformer3DModel",),
    sites={"blocks.*.attn1": "self", "blocks.*.attn2": "cross"},
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    grid="video",
    rotary=_rotary,
    project=project_flat,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
)
