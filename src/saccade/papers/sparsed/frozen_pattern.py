"""A block pattern chosen once from the attention of one step, and kept for all later steps.

`FindPattern` attends densely and puts the pattern, per batch row and head; `FrozenPattern` reads it at later steps.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from saccade.core.blocks import Bound
from saccade.core.call import AttentionCall
from saccade.core.coarse import Coarse, Judge, Verdict, both
from saccade.core.errors import StateError
from saccade.core.layout import Layout
from saccade.core.masks import CoarseRule, Device, Lowered, Mask, Rule, lower
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.partial import Parts
from saccade.core.places import Causal
from saccade.core.state import Memory
from saccade.ops.block_scores import BlockScores, block_scores
from saccade.ops.split_mask import MaskParts, split_mask
from saccade.papers.sparsed import block_choice
from saccade.papers.sparsed.block_choice import choose_blocks, generated_blocks

BLOCKS, MASK, TOKENS, DENSITY = "blocks", "mask", "tokens", "density"  # keys in memory
ScoreScale = Literal["width", "heads"]


@dataclass(frozen=True, eq=False)
class BlockGrid(Mask):
    """allow (b|1 h|1 Q K): verdicts between blocks of `block` tokens, over the first `n` queries and keys."""

    allow: Bool[Tensor, "b h Q K"]
    block: int
    n: int

    @property
    def mask_dims(self) -> tuple[int, int]:
        return self.allow.shape[0], self.allow.shape[1]

    def rule(self, layout_q: Layout, layout_k: Layout, device: Device) -> Rule:
        allow, (batch, heads), last = self.allow.to(device), self.mask_dims, self.allow.shape[2] - 1

        def permits(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            row, column = (torch.clamp(i // self.block, max=last) for i in (q, k))
            return allow[b * (batch > 1), h * (heads > 1), row, column]

        return lambda b, h, q, k: (q < self.n) & (k < self.n), permits

    def coarse(self, layout_q: Layout, layout_k: Layout, device: Device) -> CoarseRule:
        """By counting the open blocks in the rectangle that spans a block of tokens: exact for runs of tokens."""
        named = [torch.arange(layout.n, device=device) < self.n for layout in (layout_q, layout_k)]
        return both(*named), self._spanned(device)

    def _spanned(self, device: Device) -> Coarse:
        counts = torch.nn.functional.pad(self.allow.to(device, torch.int32).cumsum(2).cumsum(3), (1, 0, 1, 0))

        def judge(q: Tensor, k: Tensor) -> Judge:
            (top, bottom), (left, right) = self._ends(q), self._ends(k)

            def verdict(i: Tensor, j: Tensor) -> Verdict:
                upto = [counts[:, :, edge[i], right[j]] - counts[:, :, edge[i], left[j]] for edge in (bottom, top)]
                open_ = upto[0] - upto[1]
                return Verdict(open_ > 0, open_ == (bottom - top)[i] * (right - left)[j])

            return Judge(verdict)

        return judge

    def _ends(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """First block of each set of tokens, and the one after the last."""
        last = self.allow.shape[2] - 1
        at = torch.clamp(tokens // self.block, max=last)
        return at.amin(-1), at.amax(-1) + 1

    def _closed(self, layout_q: Layout, layout_k: Layout) -> int:
        starts = torch.arange(0, self.n, self.block, device=self.allow.device)
        sizes = (self.n - starts).clamp(max=self.block)
        named = (self.allow * sizes[:, None] * sizes).sum()
        return int(named) + (layout_q.n * layout_k.n - self.n**2) * self.allow.shape[0] * self.allow.shape[1]


@dataclass(frozen=True, kw_only=True)
class FindPattern(Mechanism):
    """Attend to everything, and keep which blocks got most of the attention.

    keep        share of the key blocks, in (0, 1]
    block       tokens
    rule        how the prompt's blocks and the generated ones compete, see `choose_blocks`
    generation  number of generated tokens, at the end of the sequence; None takes it from the layout
    per_head    a pattern for each head; False for one by the mean of all heads
    queries     of each block that are scored, spread evenly; None for all
    score_scale      the scores' scale: the call's, or the call's with the number of heads in the place of their width
    """

    keep: float
    block: int
    rule: block_choice.Rule = "official"
    generation: int | None = None
    per_head: bool = True
    queries: int | None = None
    score_scale: ScoreScale = "width"
    puts: ClassVar[frozenset[str]] = frozenset({BLOCKS})

    def observe(self, call: AttentionCall, parts: Parts, mem: Memory) -> None:
        seen = split_mask(call)
        refuse_other_keys(call)
        refuse_causal(call, seen)
        layout = call.layout_q
        generated = generated_blocks(layout, self.generation, self.block)
        scores = self._shared(block_scores(self._tempered(call), self.block, generated, self.queries))
        blocks = choose_blocks(scores, generated, self.keep, self.rule)
        if seen.fixed is not None or seen.loose is not None:  # another mask may forbid all that was chosen
            blocks = blocks | torch.eye(blocks.shape[2], dtype=torch.bool, device=blocks.device)
        mem.put(BLOCKS, blocks)
        mem.put(TOKENS, layout.n)
        mem.put(DENSITY, share_open(blocks, self.block, layout.n))
        if not torch.compiler.is_compiling():
            lowered(blocks, self.block, call, mem)

    def _tempered(self, call: AttentionCall) -> AttentionCall:
        if self.score_scale == "width":
            return call
        return call.replace(scale=call.scale * (call.q.shape[3] / call.q.shape[1]) ** 0.5)

    def _shared(self, scores: BlockScores) -> BlockScores:
        if self.per_head:
            return scores
        return BlockScores(scores.whole.mean(1, keepdim=True), scores.apart.mean(1, keepdim=True), scores.open)


@dataclass(frozen=True, kw_only=True)
class FrozenPattern(Mechanism):
    """Attend to the blocks a `FindPattern` of an earlier step kept; keys appended by others stay open."""

    block: int
    gets: ClassVar[frozenset[str]] = frozenset({BLOCKS})

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        """The stored pattern as a mask; raises StateError for one found on other blocks."""
        blocks, tokens, n = mem.get(BLOCKS), mem.get(TOKENS), call.layout_q.n
        if tokens != n or len(blocks) != len(call.q):
            raise StateError(
                f"{mem.owner} found its pattern on {len(blocks)} x {tokens} tokens, this call has "
                f"{len(call.q)} x {n}; begin a new generation at step 0, which clears it"
            )
        if torch.compiler.is_compiling():
            return Pairs(mask=BlockGrid(blocks, self.block, n))
        return Pairs(mask=lowered(blocks, self.block, call, mem))

    def density(self, mem: Memory) -> Float[Tensor, ""] | None:
        return mem.get(DENSITY) if mem.has(DENSITY) else None


def lowered(blocks: Bool[Tensor, "b h Q K"], block: int, call: AttentionCall, mem: Memory) -> Lowered | None:
    """The mask of these very blocks for the tokens of a call, as it is kept, or made now: a graph keeps none."""
    if mem.has(MASK):
        of, layout_k, mask = mem.get(MASK)
        if of is blocks and layout_k == call.layout_k:
            return mask
    mask = lower(BlockGrid(blocks, block, call.layout_q.n), call.layout_q, call.layout_k, blocks.device)
    mem.put(MASK, (blocks, call.layout_k, mask))
    return mask


def share_open(blocks: Bool[Tensor, "b h Q K"], block: int, n: int) -> Float[Tensor, ""]:
    """Share of the n x n pairs that lie in open blocks, the last of which may be short."""
    sizes = (n - torch.arange(0, n, block, device=blocks.device)).clamp(max=block).double()
    return (blocks * sizes[:, None] * sizes).sum((2, 3)).mean() / n**2


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
