"""Which blocks of keys are kept, found by attention mass: beside a dense step, or by a kept lse for the very step."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.partial import Parts
from saccade.core.state import Memory
from saccade.mechanisms.frozen_pattern import BLOCKS, DENSITY, keep_blocks, refuse_causal, refuse_other_keys
from saccade.ops import attend
from saccade.ops.block_scores import block_mass, open_blocks, unpadded
from saccade.ops.split_mask import split_mask
from saccade.papers.adaspa.mass_mask import choose_blocks

LSE = "lse"  # key in memory


@dataclass(frozen=True, kw_only=True)
class MassChoice:
    """How blocks are chosen; options as those of `AdaSpa`."""

    sparsity: float
    block: int
    head_adaptive: bool = True
    text: tuple[int, int] | None = None
    queries: int | None = None

    def check(self, layout: Layout) -> None:
        """Raise ValueError where text is not among the tokens, or nothing but text is."""
        if self.text is not None and self.text[1] > layout.n:
            raise ValueError(
                f"text={self.text} ends beyond the {layout.n} tokens of the sequence ({layout.describe()}); give where "
                "text starts and stops, or None for the layout's"
            )
        if (layout.text_n if self.text is None else self.text[1] - self.text[0]) == layout.n:
            raise ValueError(
                f"all tokens are text ({layout.describe()}), whose blocks are always kept, so nothing would be sparse; "
                "give text=(start, stop), or a layout with an image"
            )

    def blocks(self, call: AttentionCall, lse: Float[Tensor, "b h n"]) -> Bool[Tensor, "b h Q K"]:
        """The blocks kept by the call's scores against an lse.

        Raises ValueError for attention that is causal or whose keys are not the queries' own tokens.
        """
        seen = split_mask(call)
        refuse_other_keys(call)
        refuse_causal(call, seen)
        keep = unpadded(call)
        mass = block_mass(call, lse, self.block, self.queries)
        text = open_blocks(keep & self._text_tokens(call.layout_q, keep.device), self.block)
        found = choose_blocks(mass, open_blocks(keep, self.block), text, self.sparsity, self.head_adaptive)
        if seen.fixed is not None or seen.loose is not None:  # another mask may forbid all that was chosen
            found = found | torch.eye(found.shape[2], dtype=torch.bool, device=found.device)
        return found

    def _text_tokens(self, layout: Layout, device: torch.device) -> Bool[Tensor, " n"]:
        if self.text is None:
            return layout.is_("text", device)
        at = torch.arange(layout.n, device=device)
        return (at >= self.text[0]) & (at < self.text[1])


@dataclass(frozen=True, kw_only=True)
class FindMask(Mechanism):
    """Attend to everything, and keep the blocks with most mass; the lse too, where a later step measures by it."""

    choice: MassChoice
    keep_lse: bool = True
    needs: ClassVar[frozenset[str]] = frozenset({"lse"})
    puts: ClassVar[frozenset[str]] = frozenset({BLOCKS, LSE})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        self.choice.check(layout_q)

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        lse = attend(call, want_lse=True).lse if parts.lse is None else parts.lse  # None where a blend made the output
        assert lse is not None
        lse = lse.detach().to(torch.promote_types(lse.dtype, torch.float32))
        keep_blocks(self.choice.blocks(call, lse), self.choice.block, call, mem)
        if self.keep_lse:
            mem.put(LSE, lse)


@dataclass(frozen=True, kw_only=True)
class RefreshMask(Mechanism):
    """Choose blocks anew by the lse of an earlier step, and attend to these alone."""

    choice: MassChoice
    gets: ClassVar[frozenset[str]] = frozenset({LSE})
    puts: ClassVar[frozenset[str]] = frozenset({BLOCKS})

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        """The new blocks as a mask; raises StateError for an lse of other tokens, rows or heads."""
        blocks = self.choice.blocks(call, mem.get(LSE, shape=tuple(call.q.shape[:3])))
        return Pairs(mask=keep_blocks(blocks, self.choice.block, call, mem))

    def density(self, mem: Memory) -> Float[Tensor, ""] | None:
        """That of the blocks in use until now: rows keep their numbers, save where a head changes its group."""
        return mem.get(DENSITY) if mem.has(DENSITY) else None
