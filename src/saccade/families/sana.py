"""Sana: linear attention within the picture or video, which has no map, and softmax cross-attention to padded text.

Only the cross-attention is a site. A control net of Sana's make reads its text in the same way.
"""

from dataclasses import replace
from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, latent_grid, runs_guidance
from saccade.seam.routes import diffusers_routes

LINEAR = "linear attention: no pair of tokens has a score, so nothing can be masked or read; choose cross-attention"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    sides = (1, *inputs["hidden_states"].shape[2:])[-3:]
    image = Layout.image_only(latent_grid(model.config, sides))
    return apart_layouts(image, inputs["encoder_hidden_states"].shape[1], site)


def _check(inputs: Inputs) -> None:
    if inputs.get("attention_mask") is not None:
        raise ValueError("attention_mask would be ignored: Sana's linear attention takes no mask; leave it out")


def _guided(pipe: Any, inputs: Inputs) -> bool | None:
    """A distilled model receives the scale and runs one branch."""
    return runs_guidance(pipe) if inputs.get("guidance") is None else False


SANA = Family(
    name="Sana",
    classes=("SanaTransformer2DModel", "SanaControlNetModel"),
    sites={"transformer_blocks.*.attn2": "cross"},
    left_alone={"transformer_blocks.*.attn1": LINEAR},
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    padding="encoder_attention_mask",
    guidance=Guidance(roles=("uncond", "cond"), stacked=True, now=_guided),
    check=_check,
)

SANA_VIDEO = replace(SANA, name="Sana-Video", classes=("SanaVideoTransformer3DModel",), grid="video")
