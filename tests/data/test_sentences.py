"""Sentences: vocabulary, batches of like length, planted evidence, and SST-2 where it lies on this machine."""

import os

import numpy as np
import pytest
import torch

from saccade.data.sentences import NOISE, Texts, Vocabulary, planted_texts, read_reviews, read_sst2

TEXTS = Texts(
    sentences=(("a", "b", "a"), ("b", "c"), ("z",)),
    labels=(1, 0, 1),
    rationale=((True, False, True), (False, True), (True,)),
)


def test_words_are_numbered_by_how_often_they_occur_and_unknown_ones_left_out() -> None:
    vocabulary = Vocabulary.of(Texts(sentences=(("b", "a", "b"), ("c", "b"))), least=1)
    assert vocabulary.words == ("b", "a", "c") and len(vocabulary) == 4
    found = vocabulary.encode(TEXTS)
    assert found.ids.tolist() == [[2, 1, 2], [1, 3, 0]] and found.labels.tolist() == [1, 0] and found.words == 4
    assert found.rationale.tolist() == [[True, False, True], [False, True, False]]
    known = Vocabulary(("c",)).encode(TEXTS)
    assert known.ids.tolist() == [[1]] and known.rationale.tolist() == [[True]]
    assert len(Vocabulary.of(TEXTS, least=2).words) == 2


def test_rows_are_taken_no_wider_than_their_longest() -> None:
    found = Vocabulary.of(TEXTS).encode(TEXTS).take(torch.tensor([2, 1]))
    assert found.ids.shape == (2, 2) and found.rationale.shape == (2, 2) and found.labels.tolist() == [1, 0]
    assert found.unlabelled().labels is None


def test_a_batch_holds_sentences_of_about_one_length_and_depends_on_the_seed_alone() -> None:
    texts = planted_texts(400, seed=1)
    sentences = Vocabulary.of(texts).encode(texts)
    for seed in range(5):
        one, two = (sentences.batch(np.random.default_rng(seed), 16) for _ in range(2))
        assert torch.equal(one.ids, two.ids) and len(one) == 16
        assert int(one.lengths.max()) * (1 - NOISE) <= int(one.lengths.min()) * (1 + NOISE) + 3
    assert len(sentences.batch(np.random.default_rng(0), 1000)) == 400
    lengths = torch.cat([part.lengths for part in sentences.in_turn(64)])
    assert len(lengths) == 400 and bool((lengths.diff() >= 0).all())


def test_planted_words_decide_and_only_they() -> None:
    texts = planted_texts(200, seed=3)
    assert planted_texts(200, seed=3).sentences == texts.sentences != planted_texts(200, seed=4).sentences
    for sentence, label, marks in zip(texts.sentences, texts.labels, texts.rationale, strict=True):
        said = [word for word, mark in zip(sentence, marks, strict=True) if mark]
        assert len(said) == 2 and all(word.startswith("yes" if label else "no") for word in said)
        assert all(word.startswith("w") for word, mark in zip(sentence, marks, strict=True) if not mark)
    assert 70 < sum(texts.labels) < 130
    with pytest.raises(ValueError, match="longest=3 must be at least 4 words, two of which decide"):
        planted_texts(1, longest=3)


def test_sentences_that_begin_alike_are_taken_out() -> None:
    pool = Texts(sentences=(("It", "'s", "a", "long", "day", "in", "the", "sun"), ("b",)), labels=(1, 0))
    left = pool.without(Texts(sentences=(("it's", "a", "long", "day", "in", "the", "sun", "!"),)))
    assert left.sentences == (("b",),) and left.labels == (0,)


@pytest.mark.skipif(not os.environ.get("SACCADE_DATA"), reason="SACCADE_DATA names no folder of data sets")
def test_sst2_has_its_published_sizes() -> None:
    try:
        sizes = [len(read_sst2(split)) for split in ("train", "dev", "test")]
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    assert sizes == [6920, 872, 1821]
    texts = read_sst2("dev")
    assert set(texts.labels) == {0, 1} and all(texts.sentences)
    assert len(read_reviews()) == 10662 and read_reviews().labels is None


def test_files_that_are_missing_and_splits_there_are_not_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACCADE_DATA", raising=False)
    with pytest.raises(
        FileNotFoundError, match=r"SACCADE_DATA=None has no sst2/train.txt; set it.*or take planted_texts"
    ):
        read_sst2()
    with pytest.raises(ValueError, match="split='valid' is unknown; choose one of train, dev, test"):
        read_sst2("valid")  # type: ignore[arg-type]
