"""Attention to the chunks chosen, by two branches merged as one softmax.

The call's own attend runs over each token's own chunk (`OwnChunk`, planned beside this) and over text; here the chunks
chosen besides are attended to, and both are merged by lse.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from saccade.core.biases import DenseBias
from saccade.core.call import AttentionCall
from saccade.core.errors import ConflictError
from saccade.core.layout import Layout
from saccade.core.masks import And, Lowered, Mask
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Partial, Parts, merge, whole
from saccade.core.state import Memory
from saccade.ops.chosen_keys import attend_chosen
from saccade.ops.dispatch import cast
from saccade.ops.operands import has_dense, operands
from saccade.ops.parts import attend_parts
from saccade.ops.split_mask import MaskParts, split_mask
from saccade.papers.vmoba.partition import Blocks, Chunks, OwnChunk, chunks
from saccade.papers.vmoba.selection import Threshold, TopK, choose_pairs, gates, mean_keys

SHORT = 1024  # image tokens below which one masked softmax takes less


@dataclass(frozen=True, kw_only=True)
class ChosenChunks(Mechanism):
    """Adds the chunks chosen by `rule` to attention over each token's own; the choice passes no gradient."""

    blocks: Blocks
    rule: Threshold | TopK
    needs: ClassVar[frozenset[str]] = frozenset({"lse"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where queries and keys are other tokens, or blocks do not fit the grid."""
        if layout_q != layout_k:
            raise ValueError(
                f"keys are {layout_k.describe()} and queries {layout_q.describe()}; blocks are chosen for attention "
                "of a sequence to itself: choose such sites, and run without a cache"
            )
        self._chunks(layout_q, torch.device("cpu"))

    def density(self, mem: Memory) -> None:
        """The choice is made inside the call."""

    def choose(self, call: AttentionCall) -> Bool[Tensor, "b h c s"]:
        """The chunks that each image token keeps, its own among them.

        Raises ValueError for gates that are not finite.
        """
        parts, span = self._chunks(call.layout_q, call.q.device), call.layout_q.span(call.layout_q.image.name)
        with torch.no_grad(), torch.autocast(call.q.device.type, enabled=False):
            keep = split_mask(call.replace(mask=_without(call.mask, self._own))).keep
            means = mean_keys(call.k[:, :, span], parts, None if keep is None else keep[:, span])
            chosen = choose_pairs(gates(call.q[:, :, span], means), parts.own, self.rule)
            return torch.where(chosen.any(2, keepdim=True), chosen, parts.own) if self._free else chosen

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        """Raises ConflictError where another system has reworked the output before."""
        if call.groups is None and (parts.masses is not None or parts.extra is not None):
            raise ConflictError(
                f"another system reworked attention at site '{call.site.name}' before VMoBA completed it; give VMoBA "
                "first to attach"
            )
        chosen, rest = self.choose(call), _without(call.mask, self._own)
        seen = split_mask(call.replace(mask=rest))
        if self._written_out(call, seen):
            closed = DenseBias(self._closed(call, chosen))
            return attend_parts(
                call.replace(mask=rest, bias=closed if call.bias is None else call.bias + closed), want_lse=True
            )
        return _merged(parts, self._besides(cast(call), chosen, seen))

    @property
    def _free(self) -> bool:
        """Whether tokens may be left without their own chunk."""
        return isinstance(self.rule, Threshold) and not self.rule.forced_own

    @property
    def _own(self) -> OwnChunk:
        return OwnChunk(self.blocks)

    def _chunks(self, layout: Layout, device: torch.device) -> Chunks:
        assert layout.image.grid is not None
        return chunks(self.blocks, layout.image.grid, device)

    def _written_out(self, call: AttentionCall, seen: MaskParts) -> bool:
        """Whether one softmax with all pairs is better: short sequences, and what the two branches cannot say."""
        other = seen.fixed is not None or seen.loose is not None or call.groups is not None or has_dense(call.bias)
        return other or self._free or call.layout_q.image.n < SHORT

    def _closed(self, call: AttentionCall, chosen: Tensor) -> Tensor:
        """-inf for pairs of image tokens that are not kept, 0 for all others."""
        parts, span = self._chunks(call.layout_q, call.q.device), call.layout_q.span(call.layout_q.image.name)
        bias = call.q.new_zeros(*chosen.shape[:2], call.q.shape[2], call.layout_q.n)
        allowed = chosen.index_select(2, parts.label).mT
        bias[:, :, span, span] = torch.where(allowed, 0.0, -torch.inf)
        return bias

    def _besides(self, call: AttentionCall, chosen: Tensor, seen: MaskParts) -> Partial:
        parts, folded = self._chunks(call.layout_q, call.q.device), operands(call)
        span = call.layout_q.span(call.layout_q.image.name)
        besides = torch.nn.functional.pad(chosen & ~parts.own, (span.start, call.layout_q.n - span.stop))
        return attend_chosen(
            folded.q, folded.k, folded.v, besides, parts.order + span.start, parts.sizes, folded.scale, seen.keep
        )


def _without(mask: Mask | None, own: OwnChunk) -> Mask | None:
    """The mask with this part of its conjunction left out."""
    match mask:
        case Lowered():
            rest = _without(mask.mask, own)
            return mask if rest is mask.mask else rest
        case And():
            a, b = _without(mask.a, own), _without(mask.b, own)
            return mask if a is mask.a and b is mask.b else b if a is None else a if b is None else a & b
        case OwnChunk():
            return None if mask == own else mask
        case _:
            return mask


def _merged(parts: Parts, besides: Partial) -> Parts:
    """Both as one softmax, summed in the finer type."""
    out = parts.total
    both = merge(Partial(out.to(besides.out.dtype), parts.lse), besides)
    return whole(Partial(both.out.to(out.dtype), both.lse))
