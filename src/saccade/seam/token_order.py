"""Hosts whose tokens stand in another order than their layout says, as in tiles: taken into it, and put back."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.core.layout import Grid


@dataclass(frozen=True, eq=False)
class TokenOrder:
    """The host's number of the token at each place of the layout, and the place of each of the host's tokens."""

    host: Int[Tensor, " n"]
    back: Int[Tensor, " n"]

    def taken(self, x: Tensor, *axes: int) -> Tensor:
        """x with its tokens in the layout's order on these axes; an axis of one is for all tokens."""
        for axis in axes:
            x = x.index_select(axis, self.host) if x.shape[axis] > 1 else x
        return x

    def put_back(self, x: Tensor) -> Tensor:
        """(b h n d) in the host's order."""
        return x.index_select(2, self.back)


@lru_cache(maxsize=32)
def tiled(grid: Grid, tile: Grid, device: torch.device) -> TokenOrder:
    """Tiles one after the other in raster order, and so the tokens in each; tiles divide the grid."""
    with torch.inference_mode(False):
        sides = [n for side, part in zip(grid, tile, strict=True) for n in (side // part, part)]
        raster = torch.arange(grid[0] * grid[1] * grid[2], device=device).reshape(sides)
        back = raster.permute(0, 2, 4, 1, 3, 5).flatten()
        return TokenOrder(host=back.argsort(), back=back)
