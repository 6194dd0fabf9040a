"""A mask seen from other batch rows: of some rows alone, or of rows that take another's keys."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Int
from torch import Tensor

from saccade.core.layout import Layout
from saccade.core.masks import And, Device, KeyPadding, Mask, Rule


@dataclass(frozen=True, eq=False)
class OfRows(Mask):
    """`inner` with its batch rows in another order, some of them left out or repeated."""

    inner: Mask
    rows: Int[Tensor, " b"]
    fleeting: ClassVar[bool] = True

    @property
    def mask_dims(self) -> tuple[int, int]:
        return len(self.rows), self.inner.mask_dims[1]

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        names, permits = self.inner.rule(layout_q, layout_k, device)
        rows = self.rows.to(device)
        return lambda b, h, q, k: names(rows[b], h, q, k), lambda b, h, q, k: permits(rows[b], h, q, k)


def of_rows(mask: Mask, rows: Int[Tensor, " b"]) -> Mask:
    """The mask of a batch whose row i is row `rows[i]` of this one's; padding stays padding, which kernels know."""
    if mask.mask_dims[0] == 1:
        return mask
    if isinstance(mask, And):
        return And(of_rows(mask.a, rows), of_rows(mask.b, rows))
    if isinstance(mask, KeyPadding):
        return KeyPadding(mask.keep.index_select(0, rows.to(mask.keep.device)))
    return OfRows(mask, rows)
