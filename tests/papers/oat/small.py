"""A tiny model and layouts for it."""

from typing import Any

import torch

from saccade.papers.oat import OAT, Search, special

GRID, OBJECTS, LENGTH = (2, 3), 6, 5


def small(**changes: Any) -> OAT:
    torch.manual_seed(0)
    sizes = {"width": 24, "heads": 2, "hidden": 16, "depth": 1, "decoder_depth": 2, "places": 4, "features": LENGTH}
    return OAT(**{**sizes, **changes}).eval()


def layouts(rows: int = 2, *, seed: int = 0, **changes: Any) -> Search:
    generator = torch.Generator().manual_seed(seed)
    options = {
        "objects": torch.randn(rows, OBJECTS, LENGTH, generator=generator),
        "grid": GRID,
        "target": torch.randint(OBJECTS, (rows,), generator=generator),
    }
    return Search(**{**options, **changes})


def sequence(rows: int = 2, length: int = 4, *, seed: int = 1) -> torch.Tensor:
    """Begin and some objects."""
    found = torch.randint(OBJECTS, (rows, length), generator=torch.Generator().manual_seed(seed))
    return torch.cat((torch.full((rows, 1), special(OBJECTS).begin), found), dim=1)
