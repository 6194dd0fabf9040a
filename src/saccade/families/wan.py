"""Wan: self-attention over the video, cross-attention to the text; that to a first frame is left alone.

A first frame that is given enters as channels, or in 2.2 TI2V as latents whose tokens have a timestep of their own.
"""

from typing import Any

from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.seam.family import (
    Family,
    Guidance,
    Inputs,
    Layouts,
    apart_layouts,
    grid_ids,
    latent_grid,
    project_flat,
)
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    video = Layout.image_only(latent_grid(model.config, inputs["hidden_states"].shape[-3:]))
    return apart_layouts(video, inputs["encoder_hidden_states"].shape[1], site)


def rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    """Places on the grid; height and width get a third of the channels each, rounded down to pairs, time the rest."""
    channels = model.config.attention_head_dim
    side = 2 * (channels // 6)
    ids = grid_ids(layout, inputs["hidden_states"].device)
    return Rotary(ids=ids, theta=10000.0, axes_dim=(channels - 2 * side, side, side))


def _enter(block: Any, site: Site, tokens: Tensor, condition: Tensor) -> Tensor:
    """`condition` is (b 6 c), or (b n 6 c) where tokens have a time each."""
    shift, scale = (block.scale_shift_table + condition.float()).unbind(-2)[:2]
    if condition.ndim == 3:
        shift, scale = shift[:, None], scale[:, None]
    return (block.norm1(tokens.float()) * (1 + scale) + shift).type_as(tokens)


WAN = Family(
    name="Wan",
    classes=("WanTransformer3DModel",),
    sites={"blocks.*.attn1": "self", "blocks.*.attn2": "cross"},
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    grid="video",
    rotary=rotary,
    project=project_flat,
    enter=_enter,
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
)
