"""A small classifier of sentences, trained by a method that is named as text: what experiments on attention share.

SST-2 where it lies on this machine, or sentences with two planted words that decide.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from saccade.core.checks import check_word
from saccade.core.specs import parse_stack
from saccade.data.sentences import Sentences, Texts, Vocabulary, planted_texts, read_reviews, read_sst2
from saccade.models.text_classifier import TextClassifier
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim
from saccade.train.sentences import SentenceStage, SentenceTask

CorpusName = Literal["sst2", "planted"]
PLANTED = {"train": (2000, 1), "dev": (200, 2), "test": (500, 3), "other": (2000, 4)}  # sentences, seed


@dataclass(frozen=True, kw_only=True)
class SentenceRun:
    """Sizes of the model and its training; AdamW at one rate throughout.

    corpus   "sst2", or "planted", which needs no file
    width, hidden   of embeddings, and of the LSTM in each direction
    """

    corpus: CorpusName = "sst2"
    width: int = 100
    hidden: int = 64
    steps: int = 216
    batch: int = 64
    rate: float = 2e-3

    def __post_init__(self) -> None:
        check_word(get_args(CorpusName), corpus=self.corpus)


@dataclass(frozen=True, eq=False, kw_only=True)
class Corpus:
    """Sentences to train on, to choose by and to judge by, and unlabelled ones of another source."""

    train: Sentences
    dev: Sentences
    test: Sentences
    other: Sentences


@cache
def corpus(name: CorpusName) -> Corpus:
    """All sentences in the vocabulary of those to train on.

    Raises FileNotFoundError where SACCADE_DATA has no SST-2.
    """
    texts: dict[str, Texts]
    if name == "planted":
        texts = {split: planted_texts(count, seed=seed) for split, (count, seed) in PLANTED.items()}
    else:
        texts = {split: read_sst2(split) for split in ("train", "dev", "test")}
        texts["other"] = read_reviews().without(texts["dev"], texts["test"])
    vocabulary = Vocabulary.of(texts["train"])
    return Corpus(**{split: vocabulary.encode(each) for split, each in texts.items()})


def trained_classifier(
    run: SentenceRun,
    method: str,
    sentences: Sentences,
    seed: int,
    folder: Path,
    unlabelled: Sentences | None = None,
) -> TextClassifier:
    """A classifier trained in `folder`, by a method as one writes it, as "attention_at(eps=5)"; "" for plain training.

    Raises ValueError for a method there is not.
    """
    torch.manual_seed(seed)
    model = TextClassifier(words=sentences.words, width=run.width, hidden=run.hidden)
    fitting = Fit(steps=run.steps, seed=seed, precision="no", decay=0.0, optim=Optim.constant(run.rate))
    made: Any = parse_stack(method)[0] if method else None
    task = SentenceTask(model, sentences, SentenceStage(fit=fitting, batch=run.batch), made, unlabelled)
    fit(task, fitting, folder, cpu=True)
    return model
