"""Hunyuan-DiT: image self-attention with ready-made rotary tables, cross-attention to the text of two encoders."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.cogvideox import READY_MADE
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, image_grid, joint_layouts, project_heads
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    image = Layout.image_only(image_grid(model, inputs))
    if site.kind != "cross":
        return joint_layouts(image)
    return image, Layout.plain(sum(inputs[f"encoder_hidden_states{end}"].shape[1] for end in ("", "_t5")))


HUNYUAN_DIT = Family(
    name="Hunyuan-DiT",
    classes=("HunyuanDiT2DModel",),
    sites={"blocks.*.attn1": "self", "blocks.*.attn2": "cross"},
    layout=_layout,
    routes=diffusers_routes,
    shared=("image_rotary_emb",),
    text="apart",
    padding="text_embedding_mask",  # padded words become one learned embedding, which is seen
    unsupported={"rotary": READY_MADE, "raw": READY_MADE, "stream": NO_BLOCK, "enter": NO_BLOCK},
    project=project_heads,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
