"""A mask as a kernel that computes whole blocks applies it: every pair of a block passes where any does."""

from dataclasses import dataclass
from functools import lru_cache

from saccade.core.features import Features
from saccade.core.layout import Layout
from saccade.core.masks import CoarseRule, Device, Mask, Rule, Table
from saccade.ops.orders import inverse
from saccade.papers.scale_dit.token_orders import BLOCKS, OrderName, block_map, ordered


@dataclass(frozen=True)
class BlockExpanded(Mask):
    """`inner` with all of a block let through where any pair of it is, tokens in `order`; so it depends on the order.

    Raises ValueError, when it is bound, for queries that are not the first of the keys.
    """

    inner: Mask
    order: OrderName
    window: int
    size: tuple[int, int] = BLOCKS

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        return _table(self, layout_q, layout_k).rule(layout_q, layout_k, device)

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        return _table(self, layout_q, layout_k).coarse(layout_q, layout_k, device)

    def features(self, layout_q: Layout, layout_k: Layout) -> Features:
        return _table(self, layout_q, layout_k).features(layout_q, layout_k)

    def _closed(self, layout_q: Layout, layout_k: Layout) -> int:
        table, n = _table(self, layout_q, layout_k), layout_q.n
        rows, columns = (label.bincount() for label in (table.label_q, table.label_k))
        return int((table.allow * rows[:, None] * columns).sum()) + n * (layout_k.n - n)


@lru_cache(maxsize=8)
def _table(mask: BlockExpanded, layout_q: Layout, layout_k: Layout) -> Table:
    """Blocks as classes of tokens; keys appended to the queries' own stay open."""
    if layout_k.segments[: len(layout_q.segments)] != layout_q.segments:
        raise ValueError(
            f"keys are {layout_k.describe()} and queries {layout_q.describe()}; whole blocks are for attention of "
            "a sequence to itself"
        )
    order = ordered(mask.order, layout_q, mask.window)
    place = inverse(order)
    open_ = block_map(mask.inner, layout_q, mask.order, mask.window, mask.size) > 0
    return Table(place // mask.size[0], place // mask.size[1], open_)
