"""EasyAnimate: text of one or two encoders first, then the video, whose rotary places are stretched to a base size."""

from typing import Any

import torch

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, latent_grid, project_heads
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes

BASE = (60, 90)  # latents, high and wide, that places are counted in


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    texts = (inputs.get(f"encoder_hidden_states{end}") for end in ("", "_t5"))
    words = sum(text.shape[1] for text in texts if text is not None)
    return joint_layouts(Layout.joint(text=words, grid=latent_grid(model.config, inputs["hidden_states"].shape[-3:])))


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    grid, device, rope = layout.image.grid, inputs["hidden_states"].device, model.rope_embedding
    assert grid is not None
    high, wide = (side // rope.patch_size for side in BASE)
    first, last = rope.get_resize_crop_region_for_grid(grid[1:], wide, high)
    sides = zip(grid, (0, *first), (grid[0], *last), strict=True)
    axes = (torch.linspace(a, b * (n - 1) / n, n, device=device) for n, a, b in sides)
    words, width = torch.zeros(layout.text_n, 3, device=device), rope.rope_dim
    ids = torch.cat((words, torch.cartesian_prod(*axes)))
    return Rotary(ids=ids, theta=10000.0, axes_dim=(width // 4, width // 8 * 3, width // 8 * 3))


EASYANIMATE = Family(
    name="EasyAnimate",
    classes=("EasyAnimateTransformer3DModel",),
    sites={"transformer_blocks.*.attn1": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    grid="video",
    rotary=_rotary,
    project=project_heads,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
