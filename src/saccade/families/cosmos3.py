"""Cosmos 3: one sample a forward, without a batch axis: its text, then the videos, sound and actions that read it.

What is made asks and sees all; the text reads itself alone, in order, by a call of its own that is left to the host.
Of several videos the last that is not wholly given is the one that is made, the others are references.
"""

from collections.abc import Iterator
from math import prod
from typing import Any

import torch
from torch import Tensor

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.cosmos import HALVES
from saccade.families.pixart import NO_BLOCK
from saccade.ops.remembered import remembered
from saccade.seam.family import Family, Guidance, Inputs, Layouts
from saccade.seam.routes import diffusers_routes

TWO_STREAMS = "text and video enter as two streams without a batch axis; use k and v of the call"
ALONE = "a forward takes one sample, beside which there is no place for weak rows; use a host that takes batches"
SHARDED = (
    "this model's sequence is sharded over devices (_cp_shard_fn), so no site sees all its tokens; unset it, or detach"
)


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    if model._cp_shard_fn is not None:
        raise ValueError(SHARDED)
    made = Layout(tuple(_made(inputs)))
    return made, Layout((Segment("text", "text", inputs["und_len"]), *made.segments))


def _made(inputs: Inputs) -> Iterator[Segment]:
    """Videos, sound and actions in the order of the sequence.

    Raises ValueError where their places do not follow one another from the text's last on.
    """
    end = inputs["und_len"]
    for first, name in sorted((_first(inputs[f"{name}_sequence_indexes"]), name) for name in _given(inputs)):
        shapes = [tuple(shape) for shape in inputs[f"{name}_token_shapes"]]
        if first != end:
            raise ValueError(
                f"{name}_sequence_indexes begin at {first} (-1: not one after the other) where the tokens before end "
                f"at {end}; pack text, then videos, sound and actions, each in one run, as Cosmos3OmniPipeline does"
            )
        end += sum(prod(shape) for shape in shapes)
        for own, shape in zip(_names(name, inputs), shapes, strict=True):
            yield Segment(own, "image" if own == "image" else "extra", prod(shape), shape)


def _given(inputs: Inputs) -> list[str]:
    parts = ("vision", "sound", "action")
    return [
        part for part in parts if all(inputs.get(f"{part}_{x}") is not None for x in ("tokens", "sequence_indexes"))
    ]


def _names(part: str, inputs: Inputs) -> list[str]:
    count = len(inputs[f"{part}_token_shapes"])
    if part != "vision":
        return [f"{part}{i + 1}" if i else part for i in range(count)]
    noisy = [i for i, frames in enumerate(inputs["vision_noisy_frame_indexes"]) if len(frames)]
    main = noisy[-1] if noisy else count - 1
    return ["image" if i == main else f"reference{i + 1 - (i > main)}" for i in range(count)]


def _first(places: Tensor) -> int:
    """The first of places that follow one another, -1 of others."""

    def read() -> int:
        first = int(places[0]) if len(places) else -1
        return first if torch.equal(places.cpu(), torch.arange(first, first + len(places))) else -1

    return remembered(places, "first place", read)


def _project(module: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """As keys of the call, shared by several heads of queries."""
    k, v = (linear(x).unflatten(-1, (-1, module.head_dim)) for linear in (module.add_k_proj, module.add_v_proj))
    return module.norm_added_k(k).transpose(1, 2), v.transpose(1, 2)


COSMOS3 = Family(
    name="Cosmos 3",
    classes=("Cosmos3OmniTransformer",),
    sites={"layers.*.self_attn": "joint"},
    layout=_layout,
    routes=diffusers_routes,
    grid="video",
    project=_project,
    unsupported={"hidden": TWO_STREAMS, "rotary": HALVES, "raw": HALVES, "stream": NO_BLOCK, "enter": NO_BLOCK},
    guidance=Guidance(roles=("cond", "uncond"), stacked=False),
    time_name="vision_timesteps",
    main_input="vision_tokens",
    one_sample=True,
    alone=ALONE,
    image_asks=True,
)
