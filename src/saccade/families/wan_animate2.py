"""Wan Animate 2: a picture of a character, then the video, which follows another, frame by frame.

Keys of that other video are read once, by a forward that is left to the host, and kept. Each stream lies in a buffer of
a multiple of 128 tokens, made for videos of one size; what the two do not fill is padding, of which the host's block
mask hides what lies beyond that size. Without guidance's prompt it skips its tenth block.
"""

from math import prod
from typing import Any

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.families.anyflow_far import MULTIPLE, PADDED
from saccade.families.image_queries import TWO_TABLES
from saccade.families.pixart import INLINE
from saccade.seam.family import Family, Guidance, Inputs, Layouts, batch_of, latent_grid, project_flat
from saccade.seam.routes import diffusers_routes

KEPT = "keys of the other video are kept for the rows of the batch alone; use a host without such a cache"
SKIPPED = "blocks.9."  # where nothing is asked for


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    frames, height, width = latent_grid(model.config, batch_of(inputs["hidden_states"]).shape[-3:])
    made = (_grid("reference1", (1, height, width)), _grid("image", (frames - 1, height, width)))
    if site.kind == "cross":
        return Layout(made), Layout.plain(model.config.text_len)
    followed = _grid("followed", tuple(inputs["reference_grid_sizes"][0].tolist()))
    room = _room(inputs, height * width, followed)
    queries = _filled(made, room * (inputs["origin_len"] // 4 + 2), "padding")
    other = _filled((followed,), room * (inputs["origin_len"] // 4 + 1), "followed padding")
    return Layout(queries), Layout((*queries, *other))


def _room(inputs: Inputs, frame: int, followed: Segment) -> int:
    """Tokens of a frame; ValueError where the buffers are made for larger ones."""
    height, width = inputs["origin_area"]
    room = height * width // 256
    grid = followed.grid or (0, 0, 0)
    if {frame, grid[1] * grid[2]} != {room}:
        raise ValueError(
            f"origin_area={[height, width]} makes room for {room} tokens a frame, the videos have {frame} and "
            f"{grid[1] * grid[2]}: between them would be gaps, which no layout says; give the size of these videos"
        )
    return room


def _filled(segments: tuple[Segment, ...], room: int, name: str) -> tuple[Segment, ...]:
    spare = room + -room % MULTIPLE - sum(segment.n for segment in segments)
    return (*segments, Segment(name, "padding", spare)) if spare else segments


def _grid(name: str, grid: Grid) -> Segment:
    return Segment(name, "image" if name == "image" else "extra", prod(grid), grid)


WAN_ANIMATE2 = Family(
    name="Wan Animate 2",
    classes=("WanAnimate2Transformer3DModel",),
    sites={"blocks.*.self_attn": "self", "blocks.*.cross_attn": "cross"},
    layout=_layout,
    routes=diffusers_routes,
    text="apart",
    grid="video",
    project=project_flat,
    unsupported={"hidden": PADDED, "rotary": TWO_TABLES, "raw": TWO_TABLES, **INLINE},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    alone=KEPT,
    skipped=lambda model, inputs, site: bool(inputs.get("is_uncondtion")) and SKIPPED in site.name,
    aside=lambda inputs: inputs["kv_cache_mode"] == "extract",
    whole=False,
)
