"""Qwen-Image: text first, padded, then one grid per image (references last); rotary counts from the middle.

Layers of a picture are denoised together: one grid, with the layers where a video has frames.
"""

import math
from typing import Any

import torch
from torch import Tensor

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, named_pictures, project_heads
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def grids_of(inputs: Inputs) -> list[Grid]:
    """Grids of the images of every sample; ValueError where samples differ, since a batch has one layout."""
    first, *others = inputs["img_shapes"]
    if any(other != first for other in others):
        raise ValueError(f"img_shapes={inputs['img_shapes']} differ in one batch; run each resolution in its own batch")
    return [tuple(g) for g in first] if isinstance(first, list) else [tuple(first)]


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    text = Segment("text", "text", inputs["encoder_hidden_states"].shape[1])
    grids = _stacked(model, grids_of(inputs))
    return joint_layouts(Layout((text, *named_pictures([(math.prod(grid), grid) for grid in grids]))))


def _stacked(model: Any, grids: list[Grid]) -> list[Grid]:
    """Grids of the image and its references, the layers that a layered model denoises as one."""
    *layers, reference = grids
    if not _layered(model) or len(set(layers)) != 1:
        return grids
    _, height, width = layers[0]
    return [(len(layers), height, width), reference]


def _layered(model: Any) -> bool:
    return type(model.pos_embed).__name__ == "QwenEmbedLayer3DRope"


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    device, grids = inputs["hidden_states"].device, grids_of(inputs)
    numbers = list(range(len(grids)))
    start = max(max(h // 2, w // 2) for _, h, w in grids)
    if _layered(model):  # layers, then the picture they make up
        numbers[-1], start = -1, max(start, len(grids) - 1)
    text = torch.arange(start, start + layout.text_n, device=device).float()
    images = (_centred(number, grid, device) for number, grid in zip(numbers, grids, strict=True))
    ids = torch.cat((text[:, None].expand(-1, 3), *images))
    return Rotary(ids=ids, theta=model.pos_embed.theta, axes_dim=tuple(model.pos_embed.axes_dim))


def _centred(number: int, grid: Grid, device: torch.device) -> Tensor:
    """(t, y, x) with y and x counted from the middle and t from the number of the image."""
    frames, height, width = (torch.arange(side, device=device) for side in grid)
    middle = lambda side: side - (len(side) - len(side) // 2)  # noqa: E731
    return torch.cartesian_prod(frames + number, middle(height), middle(width)).float()


QWEN_IMAGE = Family(
    name="Qwen-Image",
    classes=("QwenImageTransformer2DModel", "QwenImageControlNetModel"),
    sites={"transformer_blocks.*.attn": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    padding="encoder_hidden_states_mask",
    rotary=_rotary,
    project=project_heads,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_scale=1000,
)
