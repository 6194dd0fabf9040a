"""From kept tokens back to all: smoothing among the kept, then every token takes the nearest of them.

u_i -> places          where the kept tokens stand: on a grid, or in a sequence
W   -> smoothing_map   exp(-|u_i - u_j|^2 / (2 sigma^2)) p_j, rows normalised
ho  -> smoothed        p h + (1 - p) W h

Sources: Hwang et al., H-Net (2025); Haridas et al., DC-DiT (2026).
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.nn.positions import grid_places
from saccade.papers.dc_dit.chunking import Chunk
from saccade.papers.dc_dit.keep_routers import single

LEAST, TINY = 1e-4, 1e-8
CELLS = 4096  # rows of the distance table that are held at a time
How = Literal["smooth", "nearest", "ema"]


@dataclass(frozen=True, kw_only=True)
class Dechunk:
    """How results are spread.

    smooth   Gaussian among the kept, by their confidence; then the nearest kept token
    nearest  the nearest kept token as it is
    ema      a running mean along the sequence; then the last kept token at or before (H-Net)
    sigma    of the Gaussian, in cells
    Raises ValueError for options out of range.
    """

    how: How = "smooth"
    sigma: float = 1.0

    def __post_init__(self) -> None:
        if self.how not in get_args(How):
            raise ValueError(f"dechunk='{self.how}' must be one of {', '.join(get_args(How))}")
        if not self.sigma > 0:
            raise ValueError(f"sigma={self.sigma} must be above 0; dechunk='nearest' leaves out the smoothing")

    def __call__(
        self, h: Float[Tensor, "b m d"], p: Float[Tensor, "b n"], chunk: Chunk, grid: tuple[int, ...] = ()
    ) -> Float[Tensor, "b n d"]:
        """All tokens, in single precision at least; `grid` (h, w), or empty for sequences."""
        with torch.autocast(h.device.type, enabled=False):
            return _at(self._mixed(single(h), single(p), chunk, grid), self._source(chunk, grid))

    def _mixed(self, h: Tensor, p: Tensor, chunk: Chunk, grid: tuple[int, ...]) -> Tensor:
        sure = chunk.take(p).clamp(LEAST, 1 - LEAST)
        match self.how:
            case "nearest":
                return h
            case "ema":
                return running_mean(h, sure, chunk.there)
        places = grid_places(grid).to(h.device)[chunk.index] if grid else chunk.index[..., None]
        return smoothed(h, sure, smoothing_map(places.to(h.dtype), sure, chunk.there, self.sigma))

    def _source(self, chunk: Chunk, grid: tuple[int, ...]) -> Int[Tensor, "b n"]:
        if self.how == "ema":
            return last_before(chunk)
        return nearest_cell(chunk, (grid[0], grid[1])) if grid else nearest_in_sequence(chunk)


def smoothing_map(
    places: Float[Tensor, "b m axes"], p: Float[Tensor, "b m"], there: Bool[Tensor, "b m"], sigma: float
) -> Float[Tensor, "b m m"]:
    """W: rows sum to one over tokens that are there; rows of padding are zero."""
    away = sum((axis[:, :, None] - axis[:, None]).square() for axis in places.unbind(-1))
    weights = torch.exp(-away / (2 * sigma**2)) * p[:, None] * (there[:, :, None] & there[:, None])  # type: ignore[operator]
    return weights / (weights.sum(-1, keepdim=True) + TINY)


def smoothed(
    h: Float[Tensor, "b m d"], p: Float[Tensor, "b m"], weights: Float[Tensor, "b m m"]
) -> Float[Tensor, "b m d"]:
    """Sure tokens keep their own result, unsure ones take that of their neighbours."""
    return p[..., None] * h + (1 - p[..., None]) * (weights @ h)


def running_mean(
    h: Float[Tensor, "b m d"], p: Float[Tensor, "b m"], there: Bool[Tensor, "b m"]
) -> Float[Tensor, "b m d"]:
    """mean_t = p_t h_t + (1 - p_t) mean_{t-1}, from zero; as one product with a triangle of weights."""
    decay = torch.log1p(-p.double()).cumsum(1)
    faded = (decay[:, :, None] - decay[:, None]).tril().exp().tril().to(h.dtype)
    return (faded * (p * there)[:, None]) @ h


def nearest_cell(chunk: Chunk, grid: tuple[int, int]) -> Int[Tensor, "b n"]:
    """For every cell which of the kept tokens is nearest, by Euclid; of equals the first in raster order."""
    cells = grid_places(grid).to(chunk.keep.device)
    places = cells[chunk.index].masked_fill(~chunk.there[..., None], torch.inf)
    return torch.cat([_nearest(part, places) for part in cells.split(max(1, CELLS // len(places)))], dim=1)


def nearest_in_sequence(chunk: Chunk) -> Int[Tensor, "b n"]:
    """For every token which of the kept ones is nearest; of two equals the left."""
    keep, far = chunk.keep, 2 * chunk.keep.shape[1]
    at = torch.arange(keep.shape[1], device=keep.device).expand(keep.shape)
    left = at.masked_fill(~keep, -far).cummax(1).values
    right = at.masked_fill(~keep, far).flip(1).cummin(1).values.flip(1)
    rank = keep.cumsum(1) - 1
    return torch.where(right - at < at - left, rank + ~keep, rank)


def last_before(chunk: Chunk) -> Int[Tensor, "b n"]:
    """For every token the last kept one at or before it; the first, where there is none."""
    return (chunk.keep.cumsum(1) - 1).clamp(min=0)


def _nearest(cells: Float[Tensor, "l 2"], places: Float[Tensor, "b m 2"]) -> Int[Tensor, "b l"]:
    away = sum((cells[:, axis, None] - places[:, None, :, axis]).square() for axis in range(2))
    return away.argmin(-1)  # type: ignore[union-attr]


def _at(h: Float[Tensor, "b m d"], source: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
    return h.gather(1, source[..., None].expand(-1, -1, h.shape[-1]))
