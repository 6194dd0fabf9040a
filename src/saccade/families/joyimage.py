"""JoyImage: pictures first, the one that is made before its references, then text."""

from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, grid_ids, joint_layouts, named_pictures
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def _pictures(model: Any, inputs: Inputs) -> list[Grid]:
    """The host moves the last of several pictures, which it denoises, to the front."""
    given = inputs["hidden_states"]
    t, h, w = (side // by for side, by in zip(given.shape[-3:], model.config.patch_size, strict=True))
    return [(t, h, w)] * (given.shape[1] if given.ndim == 6 else 1)


def _pictures_plus(model: Any, inputs: Inputs) -> list[Grid]:
    first, *others = inputs["shape_list"]
    if any(list(other) != list(first) for other in others):
        raise ValueError(f"shape_list={inputs['shape_list']} differs in one batch; run each set of sizes by itself")
    return [(t, h, w) for t, h, w in first]


def _layout_of(grids: list[Grid], n: int, text: int) -> Layouts:
    """Grids in order among n image tokens, then text."""
    pictures = named_pictures([(prod(grid), grid) for grid in grids])
    spare = n - sum(picture.n for picture in pictures)
    padding = (Segment("image padding", "padding", spare),) if spare else ()
    return joint_layouts(Layout((*pictures, *padding, Segment("text", "text", text))))


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    grids = _pictures(model, inputs)
    n = sum(prod(grid) for grid in grids)
    return _layout_of(grids, n, inputs["encoder_hidden_states"].shape[1])


def _layout_plus(model: Any, inputs: Inputs, site: Site) -> Layouts:
    n, text = inputs["hidden_states"].shape[1], inputs["encoder_hidden_states"].shape[1]
    return _layout_of(_pictures_plus(model, inputs), n, text)


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    """References count on where the frames before them ended; text follows the largest number, or is not turned."""
    c, ids = model.config, grid_ids(layout, inputs["hidden_states"].device)
    frames = 0
    for segment in layout.segments:
        if segment.grid is not None:
            ids[layout.span(segment.name), 0] += frames
            frames += segment.grid[0]
    if c.rope_type == "mrope":
        words = layout.span("text")
        ids[words] = (ids.max() + 1 + torch.arange(layout.text_n, device=ids.device))[:, None]
    width = c.hidden_size // c.num_attention_heads
    return Rotary(ids=ids, theta=c.theta, axes_dim=tuple(c.rope_dim_list or (width // 3,) * 3))


def _project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    _, k, v = (t.unflatten(-1, (module.heads, -1)) for t in module.img_attn_qkv(x).chunk(3, dim=-1))
    return module.img_attn_k_norm(k).transpose(1, 2), v.transpose(1, 2)


JOYIMAGE = Family(
    name="JoyImage",
    classes=("JoyImageEditTransformer3DModel",),
    sites={"double_blocks.*.attn": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    text="last",
    grid="video",
    rotary=_rotary,
    project=_project,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
)

JOYIMAGE_PLUS = replace(
    JOYIMAGE,
    name="JoyImage Plus",
    classes=("JoyImageEditPlusTransformer3DModel",),
    layout=_layout_plus,
    shared=("shape_list",),
    padding="encoder_hidden_states_mask",
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
