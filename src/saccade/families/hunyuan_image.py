"""HunyuanImage: image first, then the words of one encoder or two, padded."""

from dataclasses import replace
from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.hunyuan_video import HUNYUAN_VIDEO
from saccade.seam.family import Inputs, Layouts, grid_ids, joint_layouts
from saccade.seam.rotary import Rotary


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    """The real words of both encoders come first, in other places for each batch row, so they are one segment."""
    sides = inputs["hidden_states"].shape[2:]
    *time, height, width = (side // patch for side, patch in zip(sides, model.config.patch_size, strict=True))
    text = inputs["encoder_hidden_states"].shape[1]
    if model.context_embedder_2 is not None and inputs.get("encoder_hidden_states_2") is not None:
        text += inputs["encoder_hidden_states_2"].shape[1]
    return joint_layouts(
        Layout.joint(text=text, grid=(*time, height, width) if time else (1, height, width), text_first=False)
    )


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    """Two axes, or three where its latents have a time."""
    axes = tuple(model.rope.rope_dim)
    ids = grid_ids(layout, inputs["hidden_states"].device)[:, -len(axes) :]
    return Rotary(ids=ids, theta=model.rope.theta, axes_dim=axes)


HUNYUAN_IMAGE = replace(
    HUNYUAN_VIDEO,
    name="HunyuanImage",
    classes=("HunyuanImageTransformer2DModel",),
    layout=_layout,
    grid="image",
    rotary=_rotary,
    whole=False,  # how many words of each encoder are real decides on sizes inside
)
