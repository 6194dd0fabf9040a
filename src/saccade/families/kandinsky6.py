"""Kandinsky 6: a video (channels last) and its sound, each with self-attention and its own text, that read one another.

The sound is a grid (n, 1, 1): a token is a moment, as a frame of a video that is one token small. Where one reads the
other, what is read is of kind "extra": moments and frames are not counted alike. A reference frame the pipeline appends
to the video is its last frame here too.
"""

from dataclasses import replace
from typing import Any

import torch

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.kandinsky5 import REFINER, channels_last, project, table
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes

BY_SOUND = ("audio_dec_block", "va_cross_attention", "av_cross_attention")  # what does not run on a silent video


def _sound(inputs: Inputs) -> Layout:
    heard = inputs.get("audio_hidden_states")
    return Layout.image_only((0 if heard is None else heard.shape[1], 1, 1))


def _read(layout: Layout) -> Layout:
    return Layout(tuple(replace(segment, kind="extra") for segment in layout.segments))


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    video, sound = channels_last(model, inputs), _sound(inputs)
    match site.name.split(".")[2]:
        case "va_cross_attention":
            return video, _read(sound)
        case "av_cross_attention":
            return sound, _read(video)
        case part:
            own = sound if part == "audio_dec_block" else video
            return apart_layouts(own, inputs["encoder_hidden_states"].shape[1], site)


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    device = inputs["hidden_states"].device
    if layout != channels_last(model, inputs):
        rope = model.audio_rope_embeddings
        ids = torch.arange(layout.n, device=device)[:, None] * rope.freqs_scaling
        return Rotary(ids=ids, theta=rope.max_period, axes_dim=(rope.dim,))
    places = inputs.get("visual_rope_pos") or tuple(torch.arange(n, device=device) for n in layout.image.grid or ())
    return table(model.visual_rope_embeddings, places, model.scale_factor)


def _skipped(model: Any, inputs: Inputs, site: Site) -> bool:
    return inputs.get("audio_hidden_states") is None and site.name.split(".")[2] in BY_SOUND


KANDINSKY6 = Family(
    name="Kandinsky 6",
    classes=("Kandinsky6Transformer3DModel",),
    sites={
        "visual_transformer_blocks.*.self_attention": "self",
        "visual_transformer_blocks.*cross_attention": "cross",
    },
    left_alone={"*_text_transformer_blocks.*.attn": REFINER},
    layout=_layout,
    by_site=True,
    routes=diffusers_routes,
    text="apart",
    grid="video",
    shared=("visual_rope_pos",),
    padding="encoder_attention_mask",
    rotary=_rotary,
    project=project,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    skipped=_skipped,
)
