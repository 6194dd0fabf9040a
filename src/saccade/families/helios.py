"""Helios: before the video come its past frames, the older the coarser, which read and are read but hear no text.

Released models part them in three, of full, half and quarter resolution, each a grid of its own.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from typing import Any

from saccade.core.layout import Layout, Segment
from saccade.core.site import Site
from saccade.families.pixart import INLINE
from saccade.families.wan import WAN
from saccade.seam.family import Inputs, Layouts, apart_layouts, latent_grid

AVERAGED = "its older frames are turned by averages of tables, which no places give; edit q and k as they come, rotated"
HISTORY = {"long": 4, "mid": 2, "short": 1}  # in the order of tokens -> by how much it is shrunk


def _history(model: Any, inputs: Inputs) -> Iterator[Segment]:
    """The past, as far as it is given with its times."""
    for name, shrunk in HISTORY.items():
        latents, times = inputs.get(f"latents_history_{name}"), inputs.get(f"indices_latents_history_{name}")
        if latents is not None and times is not None:
            sides = zip(latents.shape[-3:], model.config.patch_size, strict=True)
            t, h, w = (-(-side // (shrunk * patch)) for side, patch in sides)
            yield Segment(f"history_{name}", "extra", prod((t, h, w)), (t, h, w))


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    video = Layout.image_only(latent_grid(model.config, inputs["hidden_states"].shape[-3:]))
    whole = Layout((*_history(model, inputs), *video.segments))
    hearing = video if site.kind == "cross" and model.config.guidance_cross_attn else whole
    return apart_layouts(hearing, inputs["encoder_hidden_states"].shape[1], site)


HELIOS = replace(
    WAN,
    name="Helios",
    classes=("HeliosTransformer3DModel",),
    layout=_layout,
    rotary=None,
    unsupported={**INLINE, "rotary": AVERAGED, "raw": AVERAGED},
)
