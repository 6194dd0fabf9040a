"""Answers to a question about a paragraph, and whether a sentence follows from another: attention that asks.

    s_t = v . tanh(W h_t + U q),   context c = sum_t a_t h_t,   logits = Linear(tanh(P c + Q q))

h are states of the paragraph, q the last states of the question, each by a BiLSTM of its own.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from saccade.models.architecture import Architecture, check_config
from saccade.models.text_classifier import Encoder, Words, kept, lstm_macs
from saccade.nn.additive_attention import AdditiveAttention, masked_softmax, pooled
from saccade.nn.perturbable import Perturbable, SamePasses


@dataclass(frozen=True, kw_only=True)
class PairClassifierConfig:
    """`words`, `width`, `hidden`, `inner` as of `TextClassifierConfig`; `classes`: answers there are.

    Raises ValueError for options out of range.
    """

    words: int = 10000
    width: int = 300
    hidden: int = 128
    inner: int | None = None
    classes: int = 3

    def __post_init__(self) -> None:
        check_config(self, words=2, width=1, hidden=1, classes=2)
        if self.inner is not None and self.inner < 1:
            raise ValueError(f"inner={self.inner} must be at least 1, or None")


class PairClassifier(Architecture):
    """Logits (b c) of a paragraph (b t) and a question (b u), word numbers padded by 0 at the end."""

    config_class = PairClassifierConfig
    config: PairClassifierConfig
    sizes: ClassVar[dict[str, Any]] = {"base": PairClassifierConfig()}

    def __init__(self, config: PairClassifierConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        wide, inner = 2 * c.hidden, c.inner or c.hidden
        self.embed = Words(c.words, c.width, False)
        self.paragraph, self.question = Encoder(c.width, c.hidden), Encoder(c.width, c.hidden)
        self.attention = AdditiveAttention(wide, inner, wide)
        self.from_context, self.from_question = nn.Linear(wide, wide), nn.Linear(wide, wide)
        self.head = nn.Linear(wide, c.classes)

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        question: Int[Tensor, "b u"],
        candidates: Bool[Tensor, "b c"] | None = None,
    ) -> Float[Tensor, "b c"]:
        """`candidates`: answers that may be given; the others' logits are minus infinity."""
        return self.perturbable(ids, question, candidates).clean

    def weights(self, ids: Int[Tensor, "b t"], question: Int[Tensor, "b u"]) -> Float[Tensor, "b t"]:
        """The attention to each word of the paragraph."""
        return masked_softmax(self.perturbable(ids, question).values, kept(ids, None))

    def perturbable(
        self,
        ids: Int[Tensor, "b t"],
        question: Int[Tensor, "b u"],
        candidates: Bool[Tensor, "b c"] | None = None,
    ) -> Perturbable:
        """The batch as it was read; scores of the paragraph's words can be added to.

        Raises ValueError for a row without a word, and for candidates of which a row has none.
        """
        keep, asked = kept(ids, None), kept(question, None)
        if candidates is not None and not bool(candidates.any(1).all()):
            raise ValueError("candidates leave a row without an answer; name at least one in each")
        states = self.paragraph(self.embed(ids), keep)
        query = self.question.last(self.question(self.embed(question), asked), asked)
        scores = self.attention(states, query)

        def run(r: Tensor) -> Tensor:
            context = pooled(masked_softmax(scores + r, keep), states)
            logits = self.head((self.from_context(context) + self.from_question(query)).tanh())
            return logits if candidates is None else logits.masked_fill(~candidates, -torch.inf)

        passes = SamePasses(run, (self,))
        clean = passes(torch.zeros_like(scores))
        return Perturbable(values=scores.detach(), keep=keep, clean=clean, run=passes)

    def macs(self, *inputs: Any) -> int:
        """Multiply-adds of paragraphs (b t) and questions (b u), all words as if they were there."""
        c, (b, t), u = self.config, inputs[0].shape, inputs[1].shape[1]
        wide, inner = 2 * c.hidden, c.inner or c.hidden
        words = (t + u) * lstm_macs(c.width, c.hidden)
        return b * (words + t * ((wide + 1) * inner + wide) + wide * (inner + 2 * wide + c.classes))
