"""Labelled sentences: SST-2 where it lies on this machine, other reviews without labels, and synthetic ones.

Words are what blanks part. In synthetic sentences two planted words decide the class, so that which words matter is
known.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

PAD = 0
SentenceSplit = Literal["train", "dev", "test"]
NOISE = 0.2  # of lengths, by which sentences of one batch are found
FOLDER, REVIEWS = "sst2", "rt-polarity.all.txt"
CLASSES = 2
BEGINS = 20  # letters by which sentences are compared
ORDINARY, PLANTED = 60, 8  # words of the synthetic language, and of those that decide, for each class


@dataclass(frozen=True, eq=False, kw_only=True)
class Texts:
    """Sentences as text.

    labels     of each; None where they have none
    rationale  which words decide, None where nobody knows
    """

    sentences: tuple[tuple[str, ...], ...]
    labels: tuple[int, ...] | None = None
    rationale: tuple[tuple[bool, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.sentences)

    def without(self, *others: "Texts") -> "Texts":
        """Those that begin like no sentence of the others, by their first 20 letters and digits."""
        known = {spelled(sentence) for other in others for sentence in other.sentences}
        rows = [i for i, sentence in enumerate(self.sentences) if spelled(sentence) not in known]
        pick = [None if x is None else tuple(x[i] for i in rows) for x in (self.labels, self.rationale)]
        return Texts(sentences=tuple(self.sentences[i] for i in rows), labels=pick[0], rationale=pick[1])  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Numbers of words from 1 on; 0 is padding, and a word that is not known is left out."""

    words: tuple[str, ...]
    numbers: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", {word: i + 1 for i, word in enumerate(self.words)})

    @classmethod
    def of(cls, texts: Texts, least: int = 1) -> "Vocabulary":
        """The words that occur `least` times, the most frequent first."""
        counted = Counter(word for sentence in texts.sentences for word in sentence)
        return cls(tuple(word for word, count in counted.most_common() if count >= least))

    def __len__(self) -> int:
        """Padding included."""
        return len(self.words) + 1

    def encode(self, texts: Texts) -> "Sentences":
        """Word numbers; sentences of which no word is known are left out."""
        rows = [[(i, self.numbers[w]) for i, w in enumerate(s) if w in self.numbers] for s in texts.sentences]
        there = [i for i, row in enumerate(rows) if row]
        marks = texts.rationale
        return Sentences(
            ids=padded([[n for _, n in rows[i]] for i in there]),
            labels=None if texts.labels is None else torch.tensor([texts.labels[i] for i in there]),
            rationale=None if marks is None else padded([[marks[i][k] for k, _ in rows[i]] for i in there]).bool(),
            words=len(self),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Sentences:
    """Sentences as word numbers, padded by 0 at the end; `words`: size of the vocabulary they are of."""

    ids: Int[Tensor, "n t"]
    words: int
    labels: Int[Tensor, " n"] | None = None
    rationale: Bool[Tensor, "n t"] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Int[Tensor, " n"]:
        """Words of each sentence."""
        return (self.ids != PAD).sum(1)

    def take(self, rows: Int[Tensor, " k"] | slice) -> "Sentences":
        """Some of them, no wider than the longest."""
        width = max(int(self.lengths[rows].max()), 1)
        labels = None if self.labels is None else self.labels[rows]
        marks = None if self.rationale is None else self.rationale[rows, :width]
        return replace(self, ids=self.ids[rows, :width], labels=labels, rationale=marks)

    def unlabelled(self) -> "Sentences":
        """Without their labels."""
        return replace(self, labels=None)

    def batch(self, rng: np.random.Generator, size: int) -> "Sentences":
        """Sentences of about the same length, found by sorting lengths with 20 % of noise and drawing one place."""
        size = min(size, len(self))
        noisy = self.lengths.numpy() * (1 + rng.uniform(-NOISE, NOISE, len(self)))
        start = int(rng.integers(len(self) - size + 1))
        return self.take(torch.from_numpy(noisy.argsort()[start : start + size].copy()))

    def in_turn(self, size: int = 256) -> Iterable["Sentences"]:
        """All of them, the shortest first."""
        for rows in self.lengths.argsort(stable=True).split(size):
            yield self.take(rows)


def read_sst2(split: SentenceSplit = "train") -> Texts:
    """Sentences of reviews and whether they praise, 6,920 to train on, 872 and 1,821 held out.

    Raises ValueError for another split, FileNotFoundError where SACCADE_DATA has no such file.
    """
    if split not in get_args(SentenceSplit):
        raise ValueError(f"split='{split}' is unknown; choose one of {', '.join(get_args(SentenceSplit))}")
    return _read(f"{split}.txt")


def read_reviews() -> Texts:
    """10,662 sentences of reviews, without labels: the pool that SST's own sentences were taken from.

    Raises FileNotFoundError where SACCADE_DATA has no such file.
    """
    return replace(_read(REVIEWS), labels=None)


def planted_texts(count: int, *, seed: int = 0, longest: int = 16) -> Texts:
    """Sentences of random words, two of which decide: both are of one class's words, which no other sentence has.

    Raises ValueError for sentences too short to hold them.
    """
    if longest < 4:
        raise ValueError(f"longest={longest} must be at least 4 words, two of which decide")
    rng = np.random.default_rng(seed)
    made = [_planted(rng, longest) for _ in range(count)]
    sentences, labels, marks = zip(*made, strict=True)
    return Texts(sentences=sentences, labels=labels, rationale=marks)


def spelled(sentence: Sequence[str]) -> str:
    """How a sentence begins, in letters and digits, by which two ways of parting it into words are one."""
    return "".join(c for c in "".join(sentence).lower() if c.isalnum())[:BEGINS]


def padded(rows: Sequence[Sequence[int]]) -> Int[Tensor, "n t"]:
    """Rows of numbers, filled up by 0."""
    width = max((len(row) for row in rows), default=1)
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows]).long().view(len(rows), width)


def _planted(rng: np.random.Generator, longest: int) -> tuple[tuple[str, ...], int, tuple[bool, ...]]:
    length, label = int(rng.integers(4, longest + 1)), int(rng.integers(CLASSES))
    places = rng.choice(length, 2, replace=False)
    words = [f"w{rng.integers(ORDINARY)}" for _ in range(length)]
    for place in places:
        words[place] = f"{'yes' if label else 'no'}{rng.integers(PLANTED)}"
    return tuple(words), label, tuple(i in places for i in range(length))


def _read(name: str) -> Texts:
    root = os.environ.get("SACCADE_DATA")
    file = Path(root or "") / FOLDER / name
    if not root or not file.is_file():
        raise FileNotFoundError(
            f"SACCADE_DATA={root} has no {FOLDER}/{name}; set it to the folder of the optional data sets, "
            "or take planted_texts"
        )
    lines = [line.split() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return Texts(sentences=tuple(tuple(line[1:]) for line in lines), labels=tuple(int(line[0]) for line in lines))
