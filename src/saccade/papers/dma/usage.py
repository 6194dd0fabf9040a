"""What a choice of keys costs: keys that each query touches and tiles that hold any, without a map where it can."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.papers.dma.attention import Choice
from saccade.papers.dma.lifetimes import key_lifetimes
from saccade.papers.dma.selection import as_map
from saccade.papers.dma.tiles import TILE, active_tiles, active_tiles_of, touched


@dataclass(frozen=True, eq=False, kw_only=True)
class KeyUsage:
    """touched: keys kept by each query; active: tiles of queries and keys in which any is; pairs: all there are."""

    touched: Int[Tensor, "b g n"]
    active: Bool[Tensor, "b g Q K"]
    pairs: int

    @property
    def density(self) -> float:
        """Share of the pairs that may be seen which is kept."""
        return int(self.touched.sum()) / self.pairs

    @property
    def tiles(self) -> tuple[int, int]:
        """Active ones of one batch row and head, on average, and all there are."""
        return round(float(self.active.float().sum((2, 3)).mean())), self.active[0, 0].numel()

    def __str__(self) -> str:
        mean, most = float(self.touched.float().mean()), int(self.touched.max())
        active, every = self.tiles
        return f"{mean:.1f} keys a query, {most} at most ({self.density:.1%} of pairs); {active} of {every} tiles"


@torch.no_grad()
def key_usage(
    choice: Choice, bias: Float[Tensor, "b g m"], n: int | None = None, *, mask: Tensor | None = None, tile: int = TILE
) -> KeyUsage:
    """What the last n queries keep; None: all. `mask` as of `dynamic_mask_attention`.

    Raises ValueError for a mask that does not fit.
    """
    b, g, m = bias.shape
    n = m if n is None else n
    keep = None if mask is None else as_map(mask, n, m)
    if choice.ranked and (keep is None or keep.shape[2] == 1):
        real = bias.new_ones(b, g, m, dtype=torch.bool) if keep is None else keep[:, :, 0].expand(b, g, m)
        found = key_lifetimes(bias, choice.window, queries=n, keep=real)
        pairs = int(real.cumsum(-1)[..., m - n :].sum())
        return KeyUsage(touched=touched(found), active=active_tiles(found, tile), pairs=pairs)
    seen, kept = (each.map(bias[:, :, None], n, keep).expand(b, g, n, m) for each in (choice.of_all(m), choice))
    return KeyUsage(touched=kept.sum(-1), active=active_tiles_of(kept, tile), pairs=int(seen.sum()))
