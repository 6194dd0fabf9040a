"""Lumina: text and image in one stream after each was refined alone (Image 2.0); cross-attention to text (Next-T2I).

In the one stream a row's image follows the last of its own words, padding left out.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.cogvideox import READY_MADE
from saccade.families.pixart import NO_BLOCK
from saccade.families.z_image import ALONE
from saccade.seam.family import (
    Family,
    Guidance,
    Inputs,
    Layouts,
    apart_layouts,
    grid_ids,
    image_grid,
    joint_layouts,
    project_grouped,
    spread_heads,
)
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    image = Layout.image_only(image_grid(model, inputs))
    if site.kind == "self":
        return joint_layouts(image)
    return joint_layouts(Layout((*Layout.plain(_words(inputs)).segments, *image.segments)))


def _words(inputs: Inputs) -> int:
    """Words of a row; ValueError where rows differ, since then their images stand at different places."""
    first, *others = inputs["encoder_attention_mask"].sum(1).tolist()
    if any(other != first for other in others):
        raise ValueError(
            f"the rows of this batch have {[first, *others]} words, and the image begins after them; "
            "run captions of different length apart"
        )
    return int(first)


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    """The first axis counts words, and stands still over the image."""
    ids = grid_ids(layout, inputs["hidden_states"].device)
    before = torch.arange(layout.text_n, device=ids.device)
    ids[: len(before), 0], ids[len(before) :, 0] = before.float(), _words(inputs)
    return Rotary(ids=ids, theta=model.rope_embedder.theta, axes_dim=tuple(model.rope_embedder.axes_dim))


LUMINA2 = Family(
    name="Lumina 2",
    classes=("Lumina2Transformer2DModel",),
    sites={"noise_refiner.*.attn": "self", "layers.*.attn": "joint"},
    left_alone={"context_refiner.*.attn": ALONE},
    layout=_layout,
    routes=diffusers_routes,
    padding="encoder_attention_mask",
    rotary=_rotary,
    project=project_grouped,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_offset=1000,
    time_scale=-1000,
    whole=False,
)


def _layout_next(model: Any, inputs: Inputs, site: Site) -> Layouts:
    return apart_layouts(Layout.image_only(image_grid(model, inputs)), inputs["encoder_hidden_states"].shape[1], site)


def _project_next(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The norm acts across heads that share keys."""
    return spread_heads(module, module.norm_k(module.to_k(x))), spread_heads(module, module.to_v(x))


LUMINA_NEXT = replace(
    LUMINA2,
    name="Lumina Next",
    classes=("LuminaNextDiT2DModel",),
    sites={"layers.*.attn1": "self", "layers.*.attn2": "cross"},
    left_alone={},
    layout=_layout_next,
    shared=("image_rotary_emb",),
    text="apart",
    padding="encoder_mask",
    rotary=None,
    project=_project_next,
    unsupported={"rotary": READY_MADE, "raw": READY_MADE, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=True),
    whole=True,
)
