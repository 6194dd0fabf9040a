"""Mochi: video first, then text; every batch row is a call of its own, cut to its real words.

Those words come first in the text of the call, wherever they stood in the prompt's padding.
"""

from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, joint_layouts, latent_grid, project_heads
from saccade.seam.routes import diffusers_routes

NARROW = "its words are narrower than its video, so both are no one tensor; hook the attention module yourself"
LEARNED = "its rotary frequencies are learned, for each head others; edit q and k as they come, rotated"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    grid = latent_grid(model.config, inputs["hidden_states"].shape[-3:])
    return joint_layouts(Layout.joint(text=inputs["encoder_hidden_states"].shape[1], grid=grid, text_first=False))


MOCHI = Family(
    name="Mochi",
    classes=("MochiTransformer3DModel",),
    sites={"transformer_blocks.*.attn1": "joint"},
    left_alone={"time_embed.pooler": "one query reads the text for the time embedding"},
    layout=_layout,
    routes=diffusers_routes,
    text="last",
    grid="video",
    padding="encoder_attention_mask",
    project=project_heads,
    unsupported={"hidden": NARROW, "rotary": LEARNED, "raw": LEARNED, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
    one_by_one=True,
    whole=False,
)
