"""Fewer tokens in the middle of a network: a picture's tokens compressed along several paths, and brought back.

Each path folds cells of c x c neighbours into one token; the paths' tokens follow one another, finest first. The way
back unfolds every path to full resolution and merges them with the tokens from before the compression.

Source: E-MMDiT (2025).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.part import to_map, to_tokens

Grid = tuple[int, int]


class TokenCompressor(nn.Module):
    """(b h w d) to the tokens of every path; `cells`: sides of what one token stands for."""

    def __init__(self, width: int, cells: tuple[int, ...] = (2, 4)) -> None:
        super().__init__()
        self.cells = cells
        self.paths = nn.ModuleList(_path(nn.PixelUnshuffle(cell), cell**2 * width, width) for cell in cells)

    def forward(self, x: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b m d"]:
        check_grid(grid, self.cells)
        picture = to_map(x, grid)
        return torch.cat([to_tokens(path(picture)) for path in self.paths], dim=1)


class TokenReconstructor(nn.Module):
    """Compressed tokens, and those `kept` from before, to tokens at full resolution.

    Raises ValueError for a width that cells cannot be unfolded from.
    """

    def __init__(self, width: int, cells: tuple[int, ...] = (2, 4)) -> None:
        super().__init__()
        if bad := [cell for cell in cells if width % cell**2]:
            raise ValueError(f"width={width} must be a multiple of {bad[0] ** 2} to unfold cells of {bad[0]}")
        self.cells = cells
        self.paths = nn.ModuleList(_path(nn.PixelShuffle(cell), width // cell**2, width) for cell in cells)
        self.merge = nn.Sequential(nn.Linear((len(cells) + 1) * width, width), nn.GELU("tanh"), nn.Linear(width, width))

    def forward(self, x: Float[Tensor, "b m d"], kept: Float[Tensor, "b n d"], grid: Grid) -> Float[Tensor, "b n d"]:
        coarse = [(grid[0] // cell, grid[1] // cell) for cell in self.cells]
        parts = x.split([h * w for h, w in coarse], dim=1)
        maps = (path(to_map(part, sides)) for path, part, sides in zip(self.paths, parts, coarse, strict=True))
        return self.merge(torch.cat([*(to_tokens(each) for each in maps), kept], dim=-1))


def compressed(grid: Grid, cells: tuple[int, ...] = (2, 4)) -> int:
    """Tokens that a grid is compressed to."""
    return sum(grid[0] // cell * (grid[1] // cell) for cell in cells)


def check_grid(grid: Grid, cells: tuple[int, ...] = (2, 4)) -> None:
    """Raise ValueError unless cells of every path tile the grid."""
    if any(side % cell for side in grid for cell in cells):
        raise ValueError(f"grid={grid} of tokens must have sides that are multiples of {max(cells)} to be compressed")


def _path(fold: nn.Module, folded: int, width: int) -> nn.Sequential:
    return nn.Sequential(fold, nn.Conv2d(folded, width, 1), nn.GELU("tanh"), nn.Conv2d(width, width, 1))
