"""A block pattern kept from an earlier step: what finds one calls `keep_blocks`, and `FrozenPattern` attends by it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.blocks import Bound
from saccade.core.call import AttentionCall
from saccade.core.errors import StateError
from saccade.core.masks import Mask
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.places import Causal
from saccade.core.state import Memory
from saccade.mechanisms.block_grid import BlockGrid, lowered, share_open
from saccade.ops.split_mask import MaskParts

BLOCKS, TOKENS, DENSITY = "blocks", "tokens", "density"  # keys in memory


def keep_blocks(blocks: Bool[Tensor, "b h Q K"], block: int, call: AttentionCall, mem: Memory) -> Mask | None:
    """Put a pattern found in this call, for `FrozenPattern` to read at later steps; its mask, for use in this one."""
    n = call.layout_q.n
    mem.put(BLOCKS, blocks)
    mem.put(TOKENS, n)
    mem.put(DENSITY, share_open(blocks, block, n))
    return _as_mask(blocks, block, call, mem)


@dataclass(frozen=True, kw_only=True)
class FrozenPattern(Mechanism):
    """Attend to the blocks an earlier step kept, see `keep_blocks`; keys appended by others stay open."""

    block: int
    gets: ClassVar[frozenset[str]] = frozenset({BLOCKS})

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        """The stored pattern as a mask; raises StateError for one found on other blocks."""
        blocks, tokens, n = mem.get(BLOCKS), mem.get(TOKENS), call.layout_q.n
        if tokens != n or len(blocks) != len(call.q) or blocks.shape[1] not in (1, call.q.shape[1]):
            raise StateError(
                f"{mem.owner} found its pattern on {len(blocks)} x {tokens} tokens and {blocks.shape[1]} heads, this "
                f"call has {len(call.q)} x {n} and {call.q.shape[1]}; begin a new generation at step 0, which clears it"
            )
        return Pairs(mask=_as_mask(blocks, self.block, call, mem))

    def density(self, mem: Memory) -> Float[Tensor, ""] | None:
        return mem.get(DENSITY) if mem.has(DENSITY) else None


def _as_mask(blocks: Bool[Tensor, "b h Q K"], block: int, call: AttentionCall, mem: Memory) -> Mask | None:
    """Kept ready for kernels, outside a graph."""
    if torch.compiler.is_compiling():
        return BlockGrid(blocks, block, call.layout_q.n)
    return lowered(blocks, block, call, mem)


def refuse_other_keys(call: AttentionCall) -> None:
    """ValueError where the keys do not begin with the queries' own tokens."""
    own = call.layout_q.segments
    if call.layout_k.segments[: len(own)] != own:
        raise ValueError(
            f"keys at site '{call.site.name}' are {call.layout_k.describe()} and queries {call.layout_q.describe()}; "
            "a frozen pattern is for attention of a sequence to itself: choose such sites, and run without a cache"
        )


def refuse_causal(call: AttentionCall, seen: MaskParts) -> None:
    """ValueError where queries see the key before their own and none the one after."""
    if (seen.loose is not None and _has_causal(seen.loose)) or (seen.fixed is not None and _one_way(seen.fixed.bound)):
        raise ValueError(
            f"attention at site '{call.site.name}' is causal; a frozen pattern is for models that attend both ways"
        )


def _one_way(bound: Bound) -> bool:
    if torch.compiler.is_compiling():
        return False
    at = torch.arange(min(bound.n, bound.m), device=bound.device)
    head = torch.zeros_like(at[1:])
    after, before = (bound.allows(head, head, *pair).any() for pair in ((at[:-1], at[1:]), (at[1:], at[:-1])))
    return bool(before) and not bool(after)


def _has_causal(mask: Mask) -> bool:
    return isinstance(mask, Causal) or any(_has_causal(part) for part in vars(mask).values() if isinstance(part, Mask))
