"""FramePack: frames of the past, from coarse to fine, then the video, a picture's tokens and the text.

One sample alone is cut to its words; more keep the padding, which the host's own mask hides.
"""

from dataclasses import replace
from math import prod
from typing import Any

from torch import Tensor

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.families.hunyuan_video import HUNYUAN_VIDEO
from saccade.seam.family import Inputs, Layouts, joint_layouts, latent_grid

POOLED = "tokens of the past are rotated by the mean of several tables; edit q and k as they come, rotated"
PAST = (  # segment, argument, latents of one token
    ("past4x", "latents_history_4x", (4, 8, 8)),
    ("past2x", "latents_history_2x", (2, 4, 4)),
    ("past", "latents_clean", (1, 2, 2)),
)
PLACES = ("indices_latents", "indices_latents_clean", "indices_latents_history_2x", "indices_latents_history_4x")


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    past = [_past(name, inputs.get(given), cell) for name, given, cell in PAST]
    grid = latent_grid(model.config, inputs["hidden_states"].shape[-3:])
    video = Segment("image", "image", prod(grid), grid)
    picture = Segment("picture", "extra", inputs["image_embeds"].shape[1])
    return joint_layouts(Layout((*(p for p in past if p.n), video, picture, Segment("text", "text", _words(inputs)))))


def _past(name: str, latents: Tensor | None, cell: Grid) -> Segment:
    """Latents (b c t h w) as tokens, filled up to whole cells as the host does."""
    if latents is None:
        return Segment(name, "extra", 0)
    t, h, w = (-(-side // by) for side, by in zip(latents.shape[-3:], cell, strict=True))
    return Segment(name, "extra", t * h * w, (t, h, w))


def _words(inputs: Inputs) -> int:
    mask = inputs["encoder_attention_mask"]
    return int(mask.sum()) if len(mask) == 1 else mask.shape[1]


FRAMEPACK = replace(
    HUNYUAN_VIDEO,
    name="FramePack",
    classes=("HunyuanVideoFramepackTransformer3DModel",),
    layout=_layout,
    shared=PLACES,
    unsupported={**HUNYUAN_VIDEO.unsupported, "rotary": POOLED, "raw": POOLED},
    rotary=None,
    whole=False,
)
