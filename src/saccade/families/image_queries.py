"""PRX and Nucleus-MoE: only image tokens ask, and see text and image; text is projected anew in every block."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.families.qwen_image import QWEN_IMAGE
from saccade.seam.family import Family, Guidance, Inputs, Layouts, project_grouped
from saccade.seam.routes import diffusers_routes

TWO_TABLES = "queries and keys are different tokens, and a table serves one of them; edit q and k as they come, rotated"
LACKS = {"rotary": TWO_TABLES, "raw": TWO_TABLES, "stream": NO_BLOCK, "enter": NO_BLOCK}


def _prx_layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    height, width = (side // model.patch_size for side in inputs["hidden_states"].shape[-2:])
    grid = (1, height, width)
    return Layout.image_only(grid), Layout.joint(text=inputs["encoder_hidden_states"].shape[1], grid=grid)


def _prx_project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    _, k, v = module.img_qkv_proj(x).unflatten(-1, (3, module.heads, -1)).transpose(1, 3).unbind(2)
    return module.norm_k(k), v


def _nucleus_layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """That of Qwen-Image with the text last, and asked by the pictures."""
    layout, _ = QWEN_IMAGE.layout(model, inputs, site)
    text, *pictures = layout.segments
    return Layout(tuple(pictures)), Layout((*pictures, text))


PRX = Family(
    name="PRX",
    classes=("PRXTransformer2DModel",),
    sites={"blocks.*.attention": "joint"},
    layout=_prx_layout,
    routes=diffusers_routes,
    padding="attention_mask",
    project=_prx_project,
    unsupported=LACKS,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
    time_scale=1000,
    image_asks=True,
)
NUCLEUS_MOE = replace(
    QWEN_IMAGE,
    name="Nucleus-MoE",
    classes=("NucleusMoEImageTransformer2DModel",),
    sites={"transformer_blocks.*.attn": "joint"},
    layout=_nucleus_layout,
    text="last",
    rotary=None,
    project=project_grouped,
    unsupported=LACKS,
    image_asks=True,
)
