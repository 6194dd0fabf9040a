"""Motif-Video: video first, then a picture's tokens and the text, padded; some blocks read the text once more apart.

The last blocks decode: they run on the video anew, and what was encoded stands in the place of the text.
"""

from math import prod
from typing import Any

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import Family, Guidance, Inputs, Layouts, grid_ids, joint_layouts, latent_grid, project_heads
from saccade.seam.rotary import Rotary
from saccade.seam.routes import diffusers_routes


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    grid = latent_grid(model.config, inputs["hidden_states"].shape[-3:])
    if _decodes(model, site.name):
        return joint_layouts(Layout((_video("image", grid), _video("encoded", grid))))
    text = Segment("text", "text", inputs["encoder_hidden_states"].shape[1])
    if site.kind == "cross":
        return Layout((_video("image", grid),)), Layout((text,))
    picture = inputs.get("image_embeds")
    seen = () if picture is None else (Segment("picture", "extra", picture.shape[1]),)
    return joint_layouts(Layout((_video("image", grid), *seen, text)))


def _video(name: str, grid: Grid) -> Segment:
    return Segment(name, "image" if name == "image" else "extra", prod(grid), grid)


def _decodes(model: Any, site: str) -> bool:
    stack, number, *_ = site.split(".")
    blocks = len(model.single_transformer_blocks) - model.num_decoder_layers
    return stack == "single_transformer_blocks" and int(number) >= blocks


def _rotary(model: Any, inputs: Inputs, layout: Layout) -> Rotary:
    device = inputs["hidden_states"].device
    ids = grid_ids(layout, device) * layout.is_("image", device)[:, None]  # what was encoded is not turned
    return Rotary(ids=ids, theta=model.rope.theta, axes_dim=tuple(model.rope.rope_dim))


MOTIF_VIDEO = Family(
    name="Motif-Video",
    classes=("MotifVideoTransformer3DModel",),
    sites={
        "transformer_blocks.*.attn": "joint",
        "single_transformer_blocks.*.attn": "joint",
        "*transformer_blocks.*.cross_attn": "cross",
    },
    layout=_layout,
    by_site=True,
    routes=diffusers_routes,
    text="last",
    grid="video",
    padding="encoder_attention_mask",
    rotary=_rotary,
    project=project_heads,
    unsupported={"stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
)
