"""Models of Wan's make: VACE, Animate, ChronoEdit, SkyReels V2 and AnyFlow.

VACE's control blocks run first, over the same grid, and are sites of their own. Its reference pictures are the first
frames of the grid, as many as only the pipeline knows.
"""

from dataclasses import replace
from typing import Any

import torch

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import INLINE
from saccade.families.wan import WAN, rotary
from saccade.seam.family import Guidance, Inputs, Layouts, apart_layouts, latent_grid
from saccade.seam.rotary import Rotary

FACE = "a frame's tokens read the face of that frame alone, with frames folded into batch rows"


def _after_reference(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """The first frame is the character, the others the video."""
    frames, height, width = latent_grid(model.config, inputs["hidden_states"].shape[-3:])
    reference = Segment("reference1", "extra", height * width, (1, height, width))
    video = Layout.image_only((frames - 1, height, width))
    return apart_layouts(Layout((reference, *video.segments)), inputs["encoder_hidden_states"].shape[1], site)


def _after_reference_rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    """The video's places go on from the reference's, which is frame 0."""
    table = rotary(model, inputs, layout)
    ids = table.ids.clone()
    ids[layout.span("image"), 0] += 1
    return replace(table, ids=ids)


def _chrono_rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    """Of two frames, a picture and what becomes of it, the second stands where the frames between left it."""
    table = rotary(model, inputs, layout)
    step = model.config.rope_temporal_skip_len - 1 if inputs["hidden_states"].shape[2] == 2 else 1
    return replace(table, ids=table.ids * torch.tensor([step, 1, 1], device=table.ids.device))


def _by_frames(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """Latents (b t c h w); pictures to go by, if there are any, come before the words."""
    _, frames, _, *sides = inputs["hidden_states"].shape
    video = Layout.image_only(latent_grid(model.config, (frames, *sides)))
    queries, keys = apart_layouts(video, inputs["encoder_hidden_states"].shape[1], site)
    pictures = inputs.get("encoder_hidden_states_image")
    if site.kind != "cross" or pictures is None:
        return queries, keys
    return queries, Layout((Segment("pictures", "extra", pictures.shape[1]), *keys.segments))


WAN_VACE = replace(
    WAN,
    name="Wan VACE",
    classes=("WanVACETransformer3DModel",),
    sites={"vace_blocks.*.attn1": "self", "vace_blocks.*.attn2": "cross", **WAN.sites},
    stacks=("vace_blocks", "blocks"),
    shared=("control_hidden_states_scale",),  # one number for each control block
    unsupported=INLINE,
)

WAN_ANIMATE = replace(
    WAN,
    name="Wan Animate",
    classes=("WanAnimateTransformer3DModel",),
    layout=_after_reference,
    rotary=_after_reference_rotary,
    left_alone={"face_adapter.[0-9]": FACE},
)

CHRONO_EDIT = replace(WAN, name="ChronoEdit", classes=("ChronoEditTransformer3DModel",), rotary=_chrono_rotary)

SKYREELS = replace(WAN, name="SkyReels V2", classes=("SkyReelsV2Transformer3DModel",), unsupported=INLINE)

ANYFLOW = replace(
    WAN,
    name="AnyFlow",
    classes=("AnyFlowTransformer3DModel",),
    layout=_by_frames,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True),
)
