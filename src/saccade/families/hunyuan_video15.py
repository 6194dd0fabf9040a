"""HunyuanVideo 1.5: video first, then one run of text: words of two encoders and the tokens of a first frame.

The host sorts that run in every row, what is real before what is padding (the frame where there is one, glyphs, words),
so it is one segment here. Its own mask hides padding from all and lets padding see nothing.
"""

from dataclasses import replace
from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.hunyuan_video import HUNYUAN_VIDEO
from saccade.seam.family import Inputs, Layouts, joint_layouts, latent_grid

TEXTS = ("encoder_hidden_states", "encoder_hidden_states_2", "image_embeds")


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    grid = latent_grid(model.config, inputs["hidden_states"].shape[-3:])
    return joint_layouts(Layout.joint(text=sum(inputs[name].shape[1] for name in TEXTS), grid=grid, text_first=False))


HUNYUAN_VIDEO_15 = replace(
    HUNYUAN_VIDEO,
    name="HunyuanVideo 1.5",
    classes=("HunyuanVideo15Transformer3DModel",),
    sites={"transformer_blocks.*.attn": "joint"},
    layout=_layout,
    whole=False,
)
