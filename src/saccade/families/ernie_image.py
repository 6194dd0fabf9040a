"""ERNIE-Image: the image first, then text, padded; its length is said, not masked."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.cogview import FAR_PAIRS
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, image_grid, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    text = inputs["text_bth"].shape[1]
    return joint_layouts(Layout.joint(text=text, grid=image_grid(model, inputs), text_first=False))


ERNIE_IMAGE = Family(
    name="ERNIE-Image",
    classes=("ErnieImageTransformer2DModel",),
    sites={"layers.*.self_attention": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    text="last",
    padding="text_lens",
    project=project_heads,
    unsupported={"rotary": FAR_PAIRS, "raw": FAR_PAIRS, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
