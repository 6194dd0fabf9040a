"""The weight of words in the attention of target rows, after the softmax or before it, without a map of all pairs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.biases import LowRank
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.mechanism import Mechanism, Pairs
from saccade.core.partial import Parts
from saccade.core.state import Memory
from saccade.mechanisms.key_columns import check_words
from saccade.ops.columns import key_columns, span_lse


@dataclass(frozen=True, kw_only=True)
class ScaledProbabilities(Mechanism):
    """Multiply what visual tokens pay to words, and words to them, after the softmax; sums are left as they fall.

    tokens  positions within the text
    """

    tokens: tuple[int, ...]
    factor: float
    needs: ClassVar[frozenset[str]] = frozenset({"rows.target", "lse"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where there is no image, no text, or no such token."""
        check_words(torch.tensor(self.tokens)[None, None], layout_q, layout_k)

    def blend(self, call: AttentionCall, parts: Parts, mem: Memory) -> Parts:
        assert call.rows is not None and parts.lse is not None
        rows = torch.tensor(call.rows.where("target"), device=call.q.device)
        own, lse = call.of_rows(call.rows.where("target")), parts.lse.index_select(0, rows)
        added = torch.zeros_like(parts.outs[0])
        return parts.plus(added.index_copy(0, rows, self._added(own, lse).to(added.dtype)))

    def _added(self, call: AttentionCall, lse: Float[Tensor, "r h n"]) -> Float[Tensor, "r h n c"]:
        """(factor - 1) times what passes between words and visual tokens."""
        image = call.layout_q.span(call.layout_q.image.name)
        at = placed(self.tokens, call.layout_k, call.q.device)
        added = torch.zeros(*call.q.shape[:3], call.v.shape[3], dtype=lse.dtype, device=lse.device)
        added[:, :, image] = _weighed(call, lse[:, :, image], at, image)
        if call.layout_q.of("text"):  # in cross-attention words ask nothing
            words = placed(self.tokens, call.layout_q, call.q.device)
            every = torch.arange(image.start, image.stop, device=call.q.device)[None]
            added[:, :, words[0]] = _weighed(call, span_lse(call, slice(0, call.k.shape[2]), words), every, words)
        return (self.factor - 1) * added


@dataclass(frozen=True, kw_only=True)
class BiasedLogits(Mechanism):
    """Add to the scores between words and visual tokens before the softmax, so that weights still sum to one."""

    tokens: tuple[int, ...]
    bias: float
    needs: ClassVar[frozenset[str]] = frozenset({"rows.target"})

    def check(self, layout_q: Layout, layout_k: Layout) -> None:
        """ValueError where there is no image, no text, or no such token."""
        check_words(torch.tensor(self.tokens)[None, None], layout_q, layout_k)

    def pairs(self, call: AttentionCall, mem: Memory) -> Pairs:
        return Pairs(bias=LowRank(self._sides(call, call.q, call.layout_q), self._sides(call, call.k, call.layout_k)))

    def density(self, mem: Memory) -> float:
        return 1.0

    def _sides(self, call: AttentionCall, x: Tensor, layout: Layout) -> Float[Tensor, "b 1 n 2"]:
        """Which tokens are visual, which are the word's; for keys the other way round, and times the bias."""
        assert call.rows is not None
        sides = x.new_zeros(len(x), 1, x.shape[2], 2, dtype=torch.promote_types(x.dtype, torch.float32))
        of_keys = x is call.k
        rows = list(call.rows.where("target"))
        for row in rows:
            if layout.of("image"):
                sides[row, 0, layout.span(layout.image.name), int(of_keys)] = 1.0
            if layout.of("text"):
                sides[row, 0, placed(self.tokens, layout, x.device)[0], int(not of_keys)] = 1.0
        return sides * self.bias if of_keys else sides


def placed(tokens: tuple[int, ...], layout: Layout, device: torch.device) -> Int[Tensor, "1 c"]:
    """Where words stand in the sequence."""
    return layout.span(layout.of("text")[0].name).start + torch.tensor(tokens, device=device)[None]


def _weighed(
    call: AttentionCall, lse: Float[Tensor, "r h q"], keys: Int[Tensor, "1 c"], queries: slice | Int[Tensor, "1 q"]
) -> Float[Tensor, "r h q d"]:
    """Values of some keys by what some queries pay to them."""
    v = call.v.repeat_interleave(call.q.shape[1] // call.v.shape[1], dim=1)
    return key_columns(call, lse, keys, queries) @ v[:, :, keys[0]].to(lse.dtype)
