"""A classifier of sentences that pools recurrent states by attention.

    words -> embedding -> BiLSTM h (b t 2d) -> scores s -> a = softmax(s) -> sum_t a_t h_t -> logits

The base model of "Attention Meets Perturbations" (2020), after Jain and Wallace, "Attention is not explanation" (2019).
`perturbable` hands out a batch as it was read, to be repeated with something added to scores or embeddings.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from saccade.core.checks import check_word
from saccade.models.architecture import Architecture, check_config
from saccade.nn.additive_attention import AdditiveAttention, DotAttention, masked_softmax, pooled
from saccade.nn.perturbable import Perturbable, SamePasses, check_keep

PAD = 0  # the number of what is no word
Level = Literal["scores", "words"]
LEVELS: tuple[Level, ...] = ("scores", "words")


@dataclass(frozen=True, kw_only=True)
class TextClassifierConfig:
    """Sizes and parts.

    words    size of the vocabulary, padding (0) included
    width    of an embedding
    hidden   of the LSTM, in each direction
    inner    of additive scores; None: as `hidden`
    attention  "additive" or "dot"
    classes  logits; 1 for a yes or no
    dropout  of states and of the pooled state
    normed   embeddings of mean 0 and variance 1 over the words as often as they occur, see `count_words`
    Raises ValueError for options out of range.
    """

    words: int = 10000
    width: int = 300
    hidden: int = 128
    inner: int | None = None
    attention: Literal["additive", "dot"] = "additive"
    classes: int = 1
    dropout: float = 0.0
    normed: bool = False

    def __post_init__(self) -> None:
        check_config(self, words=2, width=1, hidden=1, classes=1, dropout=0)
        check_word(("additive", "dot"), attention=self.attention)
        if self.inner is not None and self.inner < 1:
            raise ValueError(f"inner={self.inner} must be at least 1, or None")
        if self.dropout >= 1:
            raise ValueError(f"dropout={self.dropout} must be below 1")


class Words(nn.Module):
    """Embeddings, as they are or normed by how often words occur."""

    share: Tensor

    def __init__(self, words: int, width: int, normed: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(words, width, padding_idx=PAD)
        self.normed = normed
        if normed:
            self.register_buffer("share", torch.full((words, 1), 1 / words))

    @property
    def weight(self) -> Float[Tensor, "w e"]:
        """What words are embedded by."""
        if not self.normed:
            return self.table.weight
        mean = (self.share * self.table.weight).sum(0)
        spread = (self.share * (self.table.weight - mean).square()).sum(0)
        return (self.table.weight - mean) / (spread + 1e-6).sqrt()

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t e"]:
        return F.embedding(ids, self.weight, padding_idx=PAD)


class Encoder(nn.Module):
    """A bidirectional LSTM over the words that are there: states (b t 2d), 0 at padding."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)

    def forward(self, x: Float[Tensor, "b t e"], keep: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        packed = pack_padded_sequence(x, keep.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    def last(self, states: Float[Tensor, "b t d"], keep: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """The last state of each direction: a summary of the text."""
        forth, back = states.chunk(2, dim=-1)
        return torch.cat((forth[torch.arange(len(forth)), keep.sum(1) - 1], back[:, 0]), dim=-1)


class TextClassifier(Architecture):
    """Logits (b c) of sentences (b t) of word numbers, padded by 0 at the end."""

    config_class = TextClassifierConfig
    config: TextClassifierConfig
    sizes: ClassVar[dict[str, Any]] = {"base": TextClassifierConfig()}
    names: ClassVar = (
        ("embed.table.", "_word_embed.e."),
        ("encoder.lstm.", "_encoder.lstm."),
        *((f"attention.{ours}", f"_attention_layer.{theirs}") for ours, theirs in AdditiveAttention.names),
        ("head.", "_output."),
    )

    def __init__(self, config: TextClassifierConfig | None = None, **changes: Any) -> None:
        super().__init__(config, **changes)
        c = self.config
        self.embed = Words(c.words, c.width, c.normed)
        self.encoder = Encoder(c.width, c.hidden)
        additive = c.attention == "additive"
        self.attention = (
            AdditiveAttention(2 * c.hidden, c.inner or c.hidden) if additive else DotAttention(2 * c.hidden)
        )
        self.head = nn.Linear(2 * c.hidden, c.classes)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, ids: Int[Tensor, "b t"], keep: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b c"]:
        """`keep`: true at words; by default wherever there is a number other than 0."""
        keep = kept(ids, keep)
        return self.from_embeddings(self.embed(ids), keep)

    def from_embeddings(self, x: Float[Tensor, "b t e"], keep: Bool[Tensor, "b t"]) -> Float[Tensor, "b c"]:
        """Logits of embedded words."""
        states = self.dropout(self.encoder(x, keep))
        return self.from_scores(self.attention(states), states, keep)

    def from_scores(
        self, scores: Float[Tensor, "b t"], states: Float[Tensor, "b t d"], keep: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b c"]:
        """Logits of states pooled by these scores."""
        return self.head(self.dropout(pooled(masked_softmax(scores, keep), states)))

    def weights(self, ids: Int[Tensor, "b t"], keep: Bool[Tensor, "b t"] | None = None) -> Float[Tensor, "b t"]:
        """The attention to each word."""
        keep = kept(ids, keep)
        return masked_softmax(self.attention(self.encoder(self.embed(ids), keep)), keep)

    def perturbable(
        self,
        ids: Int[Tensor, "b t"],
        keep: Bool[Tensor, "b t"] | None = None,
        *,
        level: Level = "scores",
        share_dropout: bool = True,
    ) -> Perturbable:
        """The batch as it was read; `level` says whether scores or embeddings can be added to.

        Raises ValueError for another level, and for a mask that does not fit.
        """
        check_word(LEVELS, level=level)
        keep, embedded = kept(ids, keep), self.embed(ids)
        if level == "words":
            run = SamePasses(lambda r: self.from_embeddings(embedded + r, keep), (self,), share_dropout)
            return _perturbable(embedded, keep[..., None].expand_as(embedded), run, self.embed.weight)
        states = self.dropout(self.encoder(embedded, keep))
        scores = self.attention(states)
        return _perturbable(
            scores, keep, SamePasses(lambda r: self.from_scores(scores + r, states, keep), (self,), share_dropout)
        )

    def count_words(self, counts: Int[Tensor, " w"]) -> None:
        """How often each word occurs, by which normed embeddings are weighed.

        Raises ValueError where embeddings are not normed, or counts are not the vocabulary's.
        """
        if not self.config.normed or len(counts) != self.config.words:
            raise ValueError(
                f"counts of {len(counts)} words need normed=True and a vocabulary of as many; this one is "
                f"normed={self.config.normed} with words={self.config.words}"
            )
        self.embed.share = (counts / counts.sum()).to(self.embed.table.weight)[:, None]

    def macs(self, *inputs: Any) -> int:
        """Multiply-adds of sentences (b t), all words as if they were there."""
        c, (b, t) = self.config, inputs[0].shape
        inner = c.inner or c.hidden
        scores = (2 * c.hidden + 1) * inner if c.attention == "additive" else 2 * c.hidden
        return b * (t * (lstm_macs(c.width, c.hidden) + scores + 2 * c.hidden) + 2 * c.hidden * c.classes)


def lstm_macs(width: int, hidden: int) -> int:
    """Of both directions, for a word."""
    return 2 * 4 * hidden * (width + hidden)


def kept(ids: Int[Tensor, "b t"], keep: Bool[Tensor, "b t"] | None) -> Bool[Tensor, "b t"]:
    """Where words are.

    Raises ValueError for a mask of another shape, and for a row without a word.
    """
    found = ids != PAD if keep is None else keep
    check_keep(found, ids)
    return found


def _perturbable(values: Tensor, keep: Tensor, run: SamePasses[Any], words: Tensor | None = None) -> Perturbable:
    clean = run(torch.zeros_like(values))
    return Perturbable(values=values.detach(), keep=keep, clean=clean, run=run, words=words)
