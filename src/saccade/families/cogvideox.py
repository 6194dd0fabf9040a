"""CogVideoX and ConsisID: text first, then the video. Rotary tables arrive ready made from the pipeline."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, latent_grid, project_heads
from saccade.seam.routes import diffusers_routes

READY_MADE = "its rotary tables arrive ready made, without ids; pass other tables as `image_rotary_emb` instead"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    frames, _, height, width = inputs["hidden_states"].shape[1:]
    grid = latent_grid(model.config, (frames, height, width))
    return joint_layouts(Layout.joint(text=inputs["encoder_hidden_states"].shape[1], grid=grid))


def _enter(block: Any, site: Site, tokens: Tensor, condition: Tensor) -> Tensor:
    return block.norm1(tokens, tokens[:, :0], condition)[0]


COGVIDEOX = Family(
    name="CogVideoX",
    classes=("CogVideoXTransformer3DModel",),
    sites={"transformer_blocks.*.attn1": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    shared=("image_rotary_emb",),
    grid="video",
    unsupported={"rotary": READY_MADE, "raw": READY_MADE},
    project=project_heads,
    enter=_enter,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)

BY_HAND = "the face is read by products of its own, which no call of attention shows"

CONSISID = replace(
    COGVIDEOX,
    name="ConsisID",
    classes=("ConsisIDTransformer3DModel",),
    left_alone={"local_facial_extractor": BY_HAND, "perceiver_cross_attention": BY_HAND},
)
