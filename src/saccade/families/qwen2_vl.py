"""Qwen2-VL and its heirs: text with pictures and videos, each of its own grid; the vision tower is another model."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from saccade.core.layout import Grid
from saccade.core.site import Site
from saccade.families.llama import decoder
from saccade.families.picture_tokens import Grids, grids_of_places, grids_of_row, layouts
from saccade.seam.family import Inputs, Layouts

TOWER = "the vision tower attends to each picture by itself, in windows of its own; it is left alone"
HEADS = ("ForConditionalGeneration", "Model")


def _layouts(cut: Callable[[Grid], list[Grid]]) -> Any:
    """Layouts where a video is cut into grids by text that stands between its frames."""

    def layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
        config = model.config
        marks = {"image": config.image_token_id, "video": config.video_token_id}
        grids = _grids(inputs, marks, config.vision_config.spatial_merge_size)
        return layouts(
            inputs, site, marks, {name: [g for grid in found for g in cut(grid)] for name, found in grids.items()}
        )

    return layout


def _grids(inputs: Inputs, marks: dict[str, int], merge: int) -> Grids:
    """From the sizes of pictures, or, in `generate`, which encodes pictures beforehand, from the places of tokens."""
    ids, places = inputs.get("input_ids"), inputs.get("position_ids")
    given = {name: grids for name in marks if (grids := inputs.get(f"{name}_grid_thw")) is not None}
    if given or ids is None or places is None or places.ndim < 3:
        return {name: grids_of_row(grids, 1 if ids is None else len(ids), merge) for name, grids in given.items()}
    return grids_of_places(ids, places[-3:].expand(-1, len(ids), -1), marks)


QWEN2_VL = decoder(
    name="Qwen2-VL",
    classes=tuple(kin + head for kin in ("Qwen2VL", "Qwen2_5_VL") for head in HEADS),
    sites={"*language_model.layers.*.self_attn": "self"},
    left_alone={"*visual.blocks.*.attn": TOWER},
    layout=_layouts(lambda grid: [grid]),
    text="among",
    grid="video",
    whole=False,
)

QWEN3_VL = replace(  # whose videos have the time of each frame before it
    QWEN2_VL,
    name="Qwen3-VL",
    classes=tuple(kin + head for kin in ("Qwen3VL", "Qwen3VLMoe") for head in HEADS),
    layout=_layouts(lambda grid: [(1, *grid[1:])] * grid[0]),
)
