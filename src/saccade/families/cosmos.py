"""Cosmos 1 to 2.5 and its ControlNet: self-attention over the video, cross-attention to the text.

Cosmos 2.5 attends to a picture's tokens in the module that reads the text; that call is left alone. Its pipelines give
the model other functions of the noise level, so the step is the scheduler's own.
"""

from dataclasses import replace
from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, latent_grid, project_heads
from saccade.seam.routes import diffusers_routes

HALVES = "its rotary table pairs channels half a head apart, `turn` neighbours; edit q and k as they come, rotated"


def _layouts(model: Any, inputs: Inputs, site: Site, main: str) -> Layouts:
    video = Layout.image_only(latent_grid(model.config, inputs[main].shape[-3:]))
    text = inputs["encoder_hidden_states"]
    words = text[0] if isinstance(text, tuple) else text  # beside a picture's tokens
    return apart_layouts(video, words.shape[1], site)


COSMOS = Family(
    name="Cosmos",
    classes=("CosmosTransformer3DModel",),
    sites={"transformer_blocks.*.attn1": "self", "transformer_blocks.*.attn2": "cross"},
    layout=lambda model, inputs, site: _layouts(model, inputs, site, "hidden_states"),
    routes=diffusers_routes,
    text="apart",
    grid="video",
    shared=("padding_mask",),
    padding="attention_mask",
    project=project_heads,
    unsupported={"rotary": HALVES, "raw": HALVES, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_scale=None,
)

COSMOS_CONTROLNET = replace(
    COSMOS,
    name="Cosmos ControlNet",
    classes=("CosmosControlNetModel",),
    sites={"control_blocks.*.attn1": "self", "control_blocks.*.attn2": "cross"},
    layout=lambda model, inputs, site: _layouts(model, inputs, site, "controls_latents"),
    main_input="controls_latents",
)
