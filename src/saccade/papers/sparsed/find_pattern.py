"""A block pattern chosen once from the attention of one step, per batch row and head, and kept for all later steps."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from saccade.core.call import AttentionCall
from saccade.core.mechanism import Mechanism
from saccade.core.partial import Parts
from saccade.core.state import Memory
from saccade.mechanisms.frozen_pattern import BLOCKS, keep_blocks, refuse_causal, refuse_other_keys
from saccade.ops.block_scores import BlockScores, block_scores
from saccade.ops.split_mask import split_mask
from saccade.papers.sparsed import block_choice
from saccade.papers.sparsed.block_choice import choose_blocks, generated_blocks

ScoreScale = Literal["width", "heads"]


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
        keep_blocks(blocks, self.block, call, mem)

    def _tempered(self, call: AttentionCall) -> AttentionCall:
        if self.score_scale == "width":
            return call
        return call.replace(scale=call.scale * (call.q.shape[3] / call.q.shape[1]) ** 0.5)

    def _shared(self, scores: BlockScores) -> BlockScores:
        if self.per_head:
            return scores
        return BlockScores(scores.whole.mean(1, keepdim=True), scores.apart.mean(1, keepdim=True), scores.open)
