"""The block pattern of verdicts between regions: tokens sorted by region, blocks straight from the verdicts.

Nothing is sought and no pair is looked at. A region that does not fill its last block leaves the rest of it empty, so
every block belongs to one region. Order, fillers and their tiles depend on the partition alone and are kept with it;
made in each call are only the lists.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from saccade.core.inference import outside_inference
from saccade.core.regions import Partition, Regions
from saccade.ops.block_cost import BlockCost
from saccade.ops.orders import inverse
from saccade.ops.pattern import Pattern, Size


@dataclass(frozen=True, eq=False, kw_only=True)
class Side:
    """Queries or keys by block: whole blocks first, then those a region does not fill, whose last token is repeated.

    order   token numbers, block by block
    region  of each block
    back    where each token stands
    tile    the number of each block's token map, 0 where it is whole
    tails   how many tokens are real in blocks of tile 1, 2, ...
    moved   whether tokens stand in another order than their own
    gaps    whether fillers stand before other tokens
    """

    order: Int[Tensor, " N"]
    region: Int[Tensor, " B"]
    back: Int[Tensor, " n"]
    tile: Int[Tensor, " B"]
    tails: tuple[int, ...]
    moved: bool
    gaps: bool


def region_pattern(regions: Regions, m: int, size: Size) -> Pattern:
    """The pattern of these verdicts for m keys, of which those beyond the partition are open to all.

    Cost: one look-up for each pair of blocks, and one wait for the device.
    """
    partition = regions.partition
    (b, h), n, extra = regions.allow.shape[:2], partition.n, m - partition.n
    q, k = side(partition, 0, size[0]), side(partition, extra, size[1])
    allow = torch.nn.functional.pad(regions.allow, (0, 1), value=True) if extra else regions.allow
    map_ = allow[:, :, q.region[:, None], k.region]
    kept = int(map_.sum())
    rows, cols = torch.nonzero_static(map_.flatten(0, 2), size=kept).to(torch.int32).unbind(1)
    moved = q.moved or k.moved
    return Pattern(
        size=size, n=n, m=m, shape=(b, h, len(q.region), len(k.region)), order=partition if moved else None,
        order_q=q.order if moved or n % size[0] else None, order_k=k.order if moved or m % size[1] else None,
        back=q.back if q.moved else None, rows=rows, cols=cols, which=k.tile[cols], tiles=_tiles(size, k),
        gaps=q.gaps or k.gaps,
    )  # fmt: skip


def cheapest_size(partition: Partition, costs: tuple[BlockCost, ...]) -> Size:
    """The block size whose blocks, fillers counted, take least; known without the verdicts."""
    return min(costs, key=lambda cost: cost.full * _filled(partition, cost.size)).size


@lru_cache(maxsize=64)
def side(partition: Partition, extra: int, size: int) -> Side:
    """Tokens sorted by region into blocks of `size`; `extra` tokens beyond the partition are one more region."""
    with outside_inference():
        label = torch.nn.functional.pad(partition.label, (0, extra), value=partition.count).cpu()
        sizes = torch.bincount(label, minlength=partition.count + bool(extra))
        region, first, real = _blocks(sizes, size)
        tokens, inside = torch.argsort(label, stable=True), torch.arange(size)
        order = tokens[first[:, None] + torch.minimum(inside, real[:, None] - 1)]
        stands = (inside < real[:, None]).flatten().nonzero()[:, 0]
        back = stands[inverse(order.flatten()[stands])]
        tails = torch.unique(real[real < size])  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        tile = torch.where(real < size, torch.searchsorted(tails, real) + 1, 0)
        order, region, back, tile = (x.to(partition.label.device) for x in (order.flatten(), region, back, tile.int()))
        return Side(
            order=order, region=region, back=back, tile=tile, tails=tuple(tails.tolist()),
            moved=not torch.equal(back.cpu(), torch.arange(len(label))), gaps=bool(stands[-1] >= len(label)),
        )  # fmt: skip


def _blocks(sizes: Int[Tensor, " R"], size: int) -> tuple[Tensor, Tensor, Tensor]:
    """(region, first token in sorted order, number of real tokens) of each block, the whole ones first."""
    whole, rest, numbers = sizes // size, sizes % size, torch.arange(len(sizes))
    start = sizes.cumsum(0) - sizes
    nth = torch.arange(int(whole.sum())) - (whole.cumsum(0) - whole).repeat_interleave(whole)
    short = rest > 0
    return (
        torch.cat((numbers.repeat_interleave(whole), numbers[short])),
        torch.cat((start.repeat_interleave(whole) + nth * size, (start + whole * size)[short])),
        torch.cat((torch.full_like(nth, size), rest[short])),
    )


def _filled(partition: Partition, size: Size) -> int:
    """Pairs of all blocks, fillers counted."""
    return len(side(partition, 0, size[0]).order) * len(side(partition, 0, size[1]).order)


def _tiles(size: Size, k: Side) -> Bool[Tensor, "T s c"]:
    """All open; then those in which only the first keys are real."""
    return _tails(size, (size[1], *k.tails), k.order.device)


@lru_cache(maxsize=64)
def _tails(size: Size, tails: tuple[int, ...], device: torch.device) -> Bool[Tensor, "T s c"]:
    with outside_inference():
        real = torch.arange(size[1]) < torch.tensor(tails)[:, None]
        return real[:, None].expand(-1, size[0], -1).contiguous().to(device)
