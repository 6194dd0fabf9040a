"""Qwen-Image 2.1: words and references in one causal stream, then the image, which sees all of it.

The tokens before the image never see it: they attend among themselves, once for each run of words and each picture, or
not at all where a cache holds their keys. Those calls are the host's own; a site's queries are the image.
"""

from itertools import groupby
from math import prod
from typing import Any

from torch import nn

from saccade.core.layout import Grid, Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.families.qwen_image import grids_of
from saccade.seam.family import Family, Guidance, Inputs, Layouts
from saccade.seam.routes import diffusers_routes

SLOT = 4  # latent tokens for each place that the encoder keeps for a picture
CACHED = "its queries are the image alone and a cache may hold the other keys; edit q, k and v as they come"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    *references, image = grids_of(inputs)
    before = _before(inputs["img_mask"][0].tolist(), prod(image), iter(references))
    target = Segment("image", "image", prod(image), image)
    return Layout((target,)), Layout((*before, target))


def _before(slots: list[bool], image: int, grids: Any) -> list[Segment]:
    """Words and references; runs of slots are cut by the grids of the references, the last are the image's."""
    segments: list[Segment] = []
    for pictured, run in groupby(slots[: len(slots) - image // SLOT]):
        n = len(list(run)) * (SLOT if pictured else 1)
        segments += _references(n, grids, segments) if pictured else [_words(n, segments)]
    return segments


def _references(n: int, grids: Any, before: list[Segment]) -> list[Segment]:
    found: list[Segment] = []
    while n > 0:
        grid: Grid = next(grids)
        number = sum(segment.kind == "extra" for segment in (*before, *found)) + 1
        found.append(Segment(f"reference{number}", "extra", prod(grid), grid))
        n -= prod(grid)
    return found


def _words(n: int, before: list[Segment]) -> Segment:
    number = sum(segment.kind == "text" for segment in before) + 1
    return Segment("text" if number == 1 else f"text{number}", "text", n)


def _unseen(module: nn.Module) -> str | None:
    processor = type(module.processor).__name__
    if "Flex" not in processor:
        return None
    return (
        f"{processor} hands over a map of blocks for all tokens at once; set_attn_processor(QwenImage21AttnProcessor())"
    )


QWEN_IMAGE21 = Family(
    name="Qwen-Image 2.1",
    classes=("QwenImage21Transformer2DModel",),
    sites={"transformer_blocks.*.attn": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    shared=("img_shapes",),
    padding="encoder_hidden_states_mask",
    unsupported={
        "hidden": CACHED, "project": CACHED, "rotary": CACHED, "raw": CACHED, "stream": NO_BLOCK, "enter": NO_BLOCK,
    },
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_scale=1000,
    unseen=_unseen,
    whole=False,
)  # fmt: skip
