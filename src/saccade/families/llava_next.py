"""LLaVA-NeXT and LLaVA-OneVision: each picture twice, small and in tiles whose rows end with a token of their own."""

from collections.abc import Iterator
from dataclasses import replace
from math import ceil, sqrt
from typing import Any

import torch

from saccade.core.layout import Grid
from saccade.core.site import Site
from saccade.families.llava import LLAVA, generative, side_of
from saccade.families.picture_tokens import BY_HAND, layouts
from saccade.seam.family import Inputs, Layouts

NEWLINE = (1, 1, 1)  # the token at the end of a video


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    config = model.config
    marks = {"image": config.image_token_id, "video": getattr(config, "video_token_id", -1)}
    return layouts(inputs, site, marks, {"image": _pictures(config, inputs), "video": _videos(config, inputs)})


def _pictures(config: Any, inputs: Inputs) -> Iterator[Grid]:
    """The small picture, and the tiles with one more column; ValueError where rows hold pictures of different sizes."""
    sizes, side, ids = inputs.get("image_sizes"), side_of(config), inputs.get("input_ids")
    if sizes is None or ids is None:
        return
    each = torch.as_tensor(sizes)
    if not torch.equal(each, each[: len(each) // len(ids)].repeat(len(ids), 1)):
        raise ValueError(f"the rows hold pictures of different sizes {each.tolist()}; run them apart, or {BY_HAND}")
    aspect = inputs.get("vision_aspect_ratio") or getattr(config, "vision_aspect_ratio", None)
    for size in each[: len(each) // len(ids)].tolist():
        yield 1, side, side
        height, width = _tiles(config, size, side, aspect)
        yield 1, height, width + 1


def _tiles(config: Any, size: list[int], side: int, aspect: str | None) -> tuple[int, int]:
    """Rows and columns of what the tiles show of a picture (height, width), made smaller where there are too many."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

    shape = get_anyres_image_grid_shape(size, config.image_grid_pinpoints, config.vision_config.image_size)
    shown = unpad_image(torch.empty(1, *(n * side for n in shape), device="meta"), size).shape[1:]
    if aspect is None:
        return shown[0], shown[1]
    ratio = sqrt(shown[0] * shown[1] / (int(aspect.removeprefix("anyres_max_")) * side**2))
    height, width = (int(n // ratio) if ratio > 1.1 else n for n in shown)
    return height, width


def _videos(config: Any, inputs: Inputs) -> Iterator[Grid]:
    """Frames at half the size, all of one length, then a token for the end."""
    if (frames := inputs.get("pixel_values_videos")) is not None:
        half = ceil(side_of(config) / 2)
        while True:
            yield frames.shape[1], half, half
            yield NEWLINE


LLAVA_NEXT = replace(
    LLAVA, name="LLaVA-NeXT", classes=generative("LlavaNext", "LlavaOnevision"), layout=_layout, grid="video"
)
