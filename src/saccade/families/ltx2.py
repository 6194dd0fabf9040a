"""LTX-2: a video and its sound, each with self-attention and a text of its own, that read one another.

The sound is a grid (n, 1, 1): a token is a moment, as a frame of a video that is one token small. Keyframes and
references that a pipeline appends to the video come after it.
"""

from math import prod
from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.ltx import ACROSS_HEADS
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, apart_layouts, project_flat
from saccade.seam.routes import diffusers_routes

BETWEEN = ("audio_to_video_attn", "video_to_audio_attn")


def _video(model: Any, inputs: Inputs) -> Layout:
    """The grid the arguments say, then what is appended; no grid for some tokens of a larger one."""
    n, patch = inputs["hidden_states"].shape[1], model.config.patch_size
    sizes = {"num_frames": model.config.patch_size_t, "height": patch, "width": patch}
    t, h, w = (-(-inputs[name] // size) for name, size in sizes.items())
    if n < prod((t, h, w)):
        return Layout.plain(n, "image")
    appended = n - prod((t, h, w))
    video = Layout.image_only((t, h, w))
    return video.append(Segment("reference1", "extra", appended)) if appended else video


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    video, sound = _video(model, inputs), Layout.image_only((inputs["audio_hidden_states"].shape[1], 1, 1))
    match site.name.split(".")[-1]:
        case "audio_to_video_attn":
            return video, sound
        case "video_to_audio_attn":
            return sound, video
        case "attn1" | "attn2":
            return apart_layouts(video, inputs["encoder_hidden_states"].shape[1], site)
        case _:
            return apart_layouts(sound, inputs["audio_encoder_hidden_states"].shape[1], site)


def _skipped(model: Any, inputs: Inputs, site: Site) -> bool:
    """Self-attention of blocks whose values stand for it in all rows, and what the streams read of one another."""
    _, block, name = site.name.rsplit(".", 2)
    if name in BETWEEN:
        return bool(inputs.get("isolate_modalities"))
    kept = inputs.get("perturbation_mask")
    perturbed = int(block) in (inputs.get("spatio_temporal_guidance_blocks") or ()) and name.endswith("attn1")
    return perturbed and (kept is None or not kept.any())


def _weak(inputs: Inputs) -> bool:
    return bool(inputs.get("spatio_temporal_guidance_blocks") or inputs.get("isolate_modalities"))


LTX2 = Family(
    name="LTX-2",
    classes=("LTX2VideoTransformer3DModel",),
    sites={
        "transformer_blocks.*.attn1": "self",
        "transformer_blocks.*.audio_attn1": "self",
        "transformer_blocks.*.attn2": "cross",
        "transformer_blocks.*.audio_attn2": "cross",
        **{f"transformer_blocks.*.{name}": "cross" for name in BETWEEN},
    },
    layout=_layout,
    by_site=True,
    routes=diffusers_routes,
    text="apart",
    grid="video",
    padding="encoder_attention_mask",
    project=project_flat,
    unsupported={"rotary": ACROSS_HEADS, "raw": ACROSS_HEADS, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
    skipped=_skipped,
    weak=_weak,
)
