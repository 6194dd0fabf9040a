"""HunyuanVideo: video first, then text, padded; the host's padding mask becomes the call's first mask."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, grid_ids, joint_layouts, project_heads
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    frames, height, width = inputs["hidden_states"].shape[-3:]
    patch = model.config.patch_size
    grid = (frames // model.config.patch_size_t, height // patch, width // patch)
    text = inputs["encoder_hidden_states"].shape[1]
    return joint_layouts(Layout.joint(text=text, grid=grid, text_first=False))


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    ids = grid_ids(layout, inputs["hidden_states"].device)
    return Rotary(ids=ids, theta=model.rope.theta, axes_dim=tuple(model.rope.rope_dim))


HUNYUAN_VIDEO = Family(
    name="HunyuanVideo",
    classes=("HunyuanVideoTransformer3DModel",),
    sites={"transformer_blocks.*.attn": "joint", "single_transformer_blocks.*.attn": "joint"},
    left_alone={"context_embedder.*.attn": "token refiner: text reads text before the joint blocks"},
    layout=_layout,
    routes=diffusers_routes,
    text="last",
    grid="video",
    padding="encoder_attention_mask",
    rotary=_rotary,
    project=project_heads,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
)
