"""Qwen2-VL: text with pictures and films, each of its own grid; the vision tower is another model inside."""

from typing import Any

from saccade.core.site import SiteKind
from saccade.hosts.family import Family, Inputs, Layouts
from saccade.hosts.transformers.llama import NO_ROTARY, enter, project
from saccade.hosts.transformers.pictures import grids_of_row, layouts
from saccade.hosts.transformers.tokens import extent, ordered

TOWER = "the vision tower attends to each picture by itself, in windows of its own; it is left alone"


def _layout(model: Any, inputs: Inputs, kind: SiteKind) -> Layouts:
    config, merge = model.config, model.config.vision_config.spatial_merge_size
    rows = 1 if inputs.get("input_ids") is None else len(inputs["input_ids"])
    marks = {"image": config.image_token_id, "video": config.video_token_id}
    grids = {name: grids_of_row(inputs.get(f"{name}_grid_thw"), rows, merge) for name in marks}
    return layouts(inputs, marks, grids)


QWEN2_VL = Family(
    name="Qwen2-VL",
    classes=("Qwen2VLForConditionalGeneration", "Qwen2VLModel"),
    sites={"*language_model.layers.*.self_attn": "self"},
    bypass={"*visual.blocks.*.attn": TOWER},
    layout=_layout,
    project=project,
    enter=enter,
    lacks={"rotary": NO_ROTARY, "raw": NO_ROTARY},
    main_input="input_ids",
    text="among",
    grid="film",
    padding="attention_mask",
    whole=False,
    bind="interface",
    extent=extent,
    ordered=ordered,
)
