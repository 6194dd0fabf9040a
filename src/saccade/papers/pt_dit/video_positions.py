"""Sine-cosine positions of videos: time in a quarter of the channels, the place in the picture in the rest."""

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.nn.positions import axis_table


def video_table(grid: tuple[int, ...], width: int, *, step: float = 1.0) -> Float[Tensor, "f hw d"]:
    """Positions of a grid (frames, height, width); cells of a picture lie `step` apart."""
    plane = plane_table(grid[1:], 3 * width // 4, steps=(step, step))
    time = axis_table(torch.arange(grid[0], dtype=torch.float64), width // 4)
    return torch.cat((time[:, None].expand(-1, len(plane), -1), plane.expand(grid[0], -1, -1)), dim=-1)


def plane_table(grid: tuple[int, ...], width: int, *, steps: tuple[float, float]) -> Float[Tensor, "hw d"]:
    """Positions of a grid (height, width), columns in the first half; cells lie `steps` apart along each axis."""
    lines = (step * torch.arange(size, dtype=torch.float64) for step, size in zip(steps, grid, strict=True))
    row, column = (axis_table(line, width // 2) for line in lines)
    both = (column.expand(*grid, -1), row[:, None].expand(*grid, -1))
    return torch.cat(both, dim=-1).flatten(0, 1)
