"""Only tiles of the map in which some query keeps some key are computed, by `ops.gather`; and how many those are."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.core.biases import PerKey
from saccade.core.call import plain_call
from saccade.core.masks import KeyPadding, Mask
from saccade.ops.dispatch import attend
from saccade.papers.dma.kept_keys import KeptKeys
from saccade.papers.dma.lifetimes import Lifetimes

TILE = 64


def attend_tiles(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b g m d"],
    v: Float[Tensor, "b g m dv"],
    bias: Float[Tensor, "b g m"],
    found: Lifetimes,
    scale: float,
) -> Float[Tensor, "b h n dv"]:
    """Attention over the keys that lifetimes leave. Cost: 2 (d + dv) FLOPs a pair of a tile that is not empty."""
    mask: Mask = KeptKeys(found, q.shape[1] // k.shape[1])
    if found.keep is not None:
        mask = mask & KeyPadding(found.keep[:, 0])
    whole = q.shape[2] == 1 and bool((found.until == k.shape[2]).all())  # then there is no tile to skip
    out = attend(plain_call(q, k, v, scale=scale, mask=mask, bias=PerKey(bias)), kernel=None if whole else "gather").out
    if found.keep is None:
        return out
    return torch.where((found.keep.cumsum(-1) > 0)[..., found.ahead :, None], out, 0.0)


def active_tiles(found: Lifetimes, size: int = TILE) -> Bool[Tensor, "b g Q K"]:
    """Tiles of `size` x `size` in which some query keeps some key, without a map of pairs."""
    b, g, m = found.until.shape
    n, keys = m - found.ahead, torch.arange(m, device=found.until.device)
    first = (keys - found.ahead).clamp(min=0).expand(b, g, m)  # row of the first query that keeps a key
    last = found.until - found.ahead - 1
    used = last >= first
    rows, columns = -(-n // size), -(-m // size)
    change = torch.zeros(b, g, columns * (rows + 1), dtype=torch.int64, device=keys.device)
    tile = (keys // size * (rows + 1)).expand(b, g, m)
    change.scatter_add_(2, tile + first // size * used, used.long())
    change.scatter_add_(2, tile + (last // size + 1) * used, -used.long())
    return change.view(b, g, columns, rows + 1).cumsum(-1)[..., :rows].mT > 0


def active_tiles_of(kept: Bool[Tensor, "b g n m"], size: int = TILE) -> Bool[Tensor, "b g Q K"]:
    """The same of a map."""
    n, m = kept.shape[2:]
    whole = torch.nn.functional.pad(kept, (0, -m % size, 0, -n % size))
    return whole.unflatten(3, (-1, size)).any(-1).unflatten(2, (-1, size)).any(3)


def touched(found: Lifetimes) -> Int[Tensor, "b g n"]:
    """How many keys each query keeps, without a map of pairs."""
    b, g, m = found.until.shape
    keys = torch.arange(m, device=found.until.device).expand(b, g, m)
    first, stop = keys.clamp(min=found.ahead), found.until
    used = (stop > first).long()
    change = torch.zeros(b, g, m + 1, dtype=torch.int64, device=keys.device)
    change.scatter_add_(2, first * used, used)
    change.scatter_add_(2, stop * used, -used)
    return change.cumsum(-1)[..., found.ahead : m]
