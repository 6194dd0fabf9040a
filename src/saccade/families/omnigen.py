"""OmniGen: a prompt that may hold pictures, a token of the time, the image; the host's map orders them causally."""

from math import prod
from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import NO_BLOCK
from saccade.seam.family import (
    Family,
    Guidance,
    Inputs,
    Layouts,
    image_grid,
    joint_layouts,
    project_grouped,
    runs_guidance,
)
from saccade.seam.routes import diffusers_routes

HALVES = "rotary pairs channels half a head apart, not neighbours; edit q and k as they come, rotated"


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    grid = image_grid(model, inputs)
    image = Segment("image", "image", prod(grid), grid)
    return joint_layouts(Layout((*_prompt(model, inputs), Segment("time", "extra", 1), image)))


def _prompt(model: Any, inputs: Inputs) -> tuple[Segment, ...]:
    """Words and pictures of the prompt: apart where all rows have the same, else one segment of neither kind."""
    ids, spans = inputs["input_ids"], inputs["input_image_sizes"]
    if ids is None:
        return ()
    rows, n = ids.shape
    found = [[tuple(span) for span in spans.get(row, ())] for row in range(rows)]
    if any(row != found[0] for row in found):
        return (Segment("prompt", "extra", n),)
    grids = [image_grid(model, {"hidden_states": latent}) for latent in inputs["input_img_latents"][: len(found[0])]]
    return tuple(_cut(found[0], grids, n))


def _cut(spans: list[tuple[int, ...]], grids: list[tuple[int, int, int]], n: int) -> list[Segment]:
    segments, done = [], 0
    for i, ((start, stop), grid) in enumerate(zip(spans, grids, strict=True)):
        segments += [_words(i, start - done), Segment(f"reference{i + 1}", "extra", stop - start, grid)]
        done = stop
    return [segment for segment in (*segments, _words(len(spans), n - done)) if segment.n]


def _words(i: int, n: int) -> Segment:
    return Segment(f"text{i + 1}" if i else "text", "text", n)


def _guided(pipe: Any, inputs: Inputs) -> bool | None:
    """A pipeline runs two rows for each sample whatever its scale; with pictures in the prompt there may be three."""
    return None if runs_guidance(pipe) is None or inputs["input_img_latents"] else True


OMNIGEN = Family(
    name="OmniGen",
    classes=("OmniGenTransformer2DModel",),
    sites={"layers.*.self_attn": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    padding="attention_mask",
    project=project_grouped,
    unsupported={"rotary": HALVES, "raw": HALVES, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=True, now=_guided),
    whole=False,
)
