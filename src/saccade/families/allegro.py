"""Allegro: self-attention over the video with ready-made rotary tables, cross-attention to the text."""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.cogvideox import READY_MADE
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, latent_grid, project_heads
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    video = Layout.image_only(latent_grid(model.config, inputs["hidden_states"].shape[-3:]))
    return apart_layouts(video, inputs["encoder_hidden_states"].shape[-2], site)


ALLEGRO = Family(
    name="Allegro",
    classes=("AllegroTransformer3DModel",),
    sites={"transformer_blocks.*.attn1": "self", "transformer_blocks.*.attn2": "cross"},
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    grid="video",
    shared=("image_rotary_emb",),
    padding="encoder_attention_mask",
    project=project_heads,
    unsupported={"rotary": READY_MADE, "raw": READY_MADE, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
