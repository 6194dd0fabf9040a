"""Ideogram 4: text, padded, then the image in one packed stream; a model of its own is the unconditional branch."""

from typing import Any

from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.cogview import FAR_PAIRS
from saccade.families.flux import picture_segments
from saccade.families.pixart import NO_BLOCK
from saccade.ops.remembered import remembered
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    indicator = inputs["indicator"]
    text = remembered(indicator, "ideogram4", lambda: _before_the_image(indicator))
    pictures = picture_segments(inputs["position_ids"], skip=text)
    return joint_layouts(Layout((Segment("text", "text", text), *pictures)))


def _before_the_image(indicator: Tensor) -> int:
    """How many tokens stand before the image in every row; raises ValueError where the image is not last in all."""
    from diffusers.models.transformers.transformer_ideogram4 import OUTPUT_IMAGE_INDICATOR

    image = indicator == OUTPUT_IMAGE_INDICATOR
    start = int(image.shape[1] - image[0].sum())
    if image[:, :start].any() or not image[:, start:].all():
        raise ValueError(
            f"indicator {tuple(indicator.shape)} has pictures in other places from row to row, or several in one row; "
            "give each row one picture of one size, after its text"
        )
    return start


def _project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    k, v = (linear(x).unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for linear in (module.to_k, module.to_v))
    return module.norm_k(k), v


IDEOGRAM4 = Family(
    name="Ideogram 4",
    classes=("Ideogram4Transformer2DModel",),
    sites={"layers.*.attention": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    padding="segment_ids",
    unsupported={"rotary": FAR_PAIRS, "raw": FAR_PAIRS, "stream": NO_BLOCK, "enter": NO_BLOCK},
    project=_project,
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_scale=-1000,
    time_offset=1000,
)
