"""Kandinsky 6's super-resolution: a video that reads itself, without text, under sparse attention (NABLA).

Tokens stand in tiles of 8 x 8, in each call the module chooses from its q and k which tiles read which, and the layout
has them in raster order all the same. The choice is the call's first mask, under every system, and is made before any
system changes q or k. Uncompiled, torch itself computes the pairs that this mask closes: then alone, the model without
a system attends to all.
"""

from typing import Any

import torch

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.kandinsky5 import channels_last, project, table
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Inputs, Layouts, joint_layouts
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes
from saccade.seam.token_order import TokenOrder, tiled

TILE = (1, 8, 8)


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    return joint_layouts(channels_last(model, inputs))


def _order(model: Any, inputs: Inputs, device: torch.device) -> TokenOrder:
    grid = channels_last(model, inputs).image.grid
    assert grid is not None
    return tiled(grid, TILE, device)


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    places = tuple(torch.arange(side, device=inputs["hidden_states"].device) for side in layout.image.grid or ())
    return table(model.visual_rope_embeddings, places, model.config.scale_factor)


KANDINSKY6_SR = Family(
    name="Kandinsky 6 SR",
    classes=("Kandinsky6SRTransformer3DModel",),
    sites={"visual_transformer_blocks.*.self_attention": "self"},
    layout=_layout,
    order=_order,
    routes=diffusers_routes,
    text="none",
    grid="video",
    rotary=_rotary,
    project=project,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
)
