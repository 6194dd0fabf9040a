"""DreamLite: a U-Net whose outer blocks have no self-attention, and the transformer it is made of.

A picture that is edited stands to the right of the one that is made: their tokens are one grid, twice as wide.
"""

from dataclasses import replace
from typing import Any

from saccade.core.layout import Layout
from saccade.core.site import Site
from saccade.families.unet import UNET
from saccade.seam.family import Guidance, Inputs, Layouts, apart_layouts, project_grouped


def _guided(pipe: Any, inputs: Inputs) -> bool | None:
    """A pipeline runs two rows for each sample whatever its scale, three (which may be six for two) where it edits."""
    said = hasattr(pipe, "image_guidance_scale") and len(inputs["sample"]) % 3
    return True if said else None


def _layout(model: Any, inputs: Inputs, site: Site) -> Layouts:
    return apart_layouts(
        Layout.image_only((1, *inputs["hidden_states"].shape[-2:])), inputs["encoder_hidden_states"].shape[1], site
    )


DREAMLITE = replace(
    UNET,
    name="DreamLite",
    classes=("DreamLiteUNetModel",),
    project=project_grouped,
    guidance=Guidance(roles=("uncond", "cond"), stacked=True, now=_guided),
)

DREAMLITE_TRANSFORMER = replace(
    DREAMLITE,
    name="DreamLite transformer",
    classes=("DreamLiteTransformer2DModel",),
    layout=_layout,
    by_site=False,
    main_input="hidden_states",
    guidance=None,
)
