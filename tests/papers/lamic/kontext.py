"""A tiny random FLUX of diffusers with the tokens of reference pictures behind those of the picture, as Kontext has."""

from typing import Any

import torch
from torch import Tensor, nn

from saccade.papers.lamic import Box, Entity, Lamic
from tests.hosts.tiny import BY_NAME, flux_inputs

SIZES = ((2, 3), (3, 2))  # tokens of the reference pictures
LEFT, RIGHT = Box(x0=0, y0=0, x1=0.5, y1=1), Box(x0=0.5, y0=0, x1=1, y1=1)
TEXT, IMAGE = slice(0, 4), slice(4, 20)
FIRST, SECOND = slice(20, 26), slice(26, 32)


def inputs(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Four text tokens, 4 x 4 of the picture, and two references; every number of two rows."""
    torch.manual_seed(1)
    found = flux_inputs(height=4, width=4, text=4)
    for height, width in SIZES:
        more = flux_inputs(height=height, width=width)
        more["img_ids"][:, 0] = 1
        found["hidden_states"] = torch.cat((found["hidden_states"], more["hidden_states"]), dim=1)
        found["img_ids"] = torch.cat((found["img_ids"], more["img_ids"]))
    return {key: x.to(dtype) if isinstance(x, Tensor) and key != "img_ids" else x for key, x in found.items()}


def model(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Two double-stream and two single-stream blocks."""
    return BY_NAME["flux"].build()[0].to(dtype)


def changed(given: dict[str, Any], text: slice | None = None, reference: slice | None = None) -> dict[str, Any]:
    """Other numbers at these text tokens, and at these tokens of the sequence."""
    found = {key: x.clone() if isinstance(x, Tensor) else x for key, x in given.items()}
    if text is not None:
        found["encoder_hidden_states"][:, text] += 1.5
    if reference is not None:
        found["hidden_states"][:, reference.start - 4 : reference.stop - 4] += 1.5
    return found


def lamic(**options: Any) -> Lamic:
    """Two entities side by side, their words all the text there is."""
    entities = (
        Entity(words=(0, 1), region=LEFT, reference="reference1"),
        Entity(words=(2, 3), region=RIGHT, reference="reference2"),
    )
    return Lamic(**{"entities": entities, "first_stage": 0.5, **options})
