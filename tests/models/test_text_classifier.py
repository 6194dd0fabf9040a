"""Classifiers of text: a plain rewrite, padding, what can be added to, costs, storage and messages."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.models.architecture import Architecture
from saccade.models.pair_classifier import PairClassifier, PairClassifierConfig
from saccade.models.text_classifier import TextClassifier, TextClassifierConfig
from tests.small_text import batch, classifier

CLOSE = {"atol": 1e-12, "rtol": 0}


def one_by_one(model: TextClassifier, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and attention, each sentence without its padding."""
    logits, maps = [], torch.zeros(ids.shape).double()
    for i, row in enumerate(ids):
        words = row[row > 0]
        states = model.encoder.lstm(model.embed.weight[words][None])[0][0]
        if model.config.attention == "additive":
            inner = torch.tanh(states @ model.attention.inner.weight.T + model.attention.inner.bias)
            scores = inner @ model.attention.score.weight[0]
        else:
            scores = states @ model.attention.score.weight[0] / states.shape[1] ** 0.5
        weights = scores.exp() / scores.exp().sum()
        maps[i, : len(words)] = weights
        logits.append(model.head.weight @ (weights @ states) + model.head.bias)
    return torch.stack(logits), maps


@pytest.mark.parametrize("attention", ["additive", "dot"])
@pytest.mark.parametrize("normed", [False, True])
def test_it_is_the_plain_rewrite_sentence_by_sentence(attention: Any, normed: bool) -> None:
    model, ids = classifier(attention=attention, normed=normed, classes=3), batch(more=2)
    logits, maps = one_by_one(model, ids)
    torch.testing.assert_close(model(ids), logits, **CLOSE)
    torch.testing.assert_close(model.weights(ids), maps, **CLOSE)


@pytest.mark.parametrize("level", ["scores", "words"])
def test_nothing_added_is_the_clean_batch_and_something_is_added_where_it_says(level: Any) -> None:
    model, ids = classifier(), batch()
    seen = model.perturbable(ids, level=level)
    assert torch.equal(seen.clean, model(ids)) and torch.equal(seen.run(torch.zeros_like(seen.values)), seen.clean)
    r = torch.randn(seen.values.shape, generator=torch.Generator().manual_seed(0)).double()
    if level == "scores":
        states = model.encoder(model.embed(ids), ids > 0)
        weights = (seen.values + r).masked_fill(ids == 0, -torch.inf).softmax(-1)
        wanted = model.head((weights[..., None] * states).sum(1))
    else:
        wanted = model.from_embeddings(model.embed(ids) + r, ids > 0)
    torch.testing.assert_close(seen.run(r), wanted, **CLOSE)


def test_normed_embeddings_have_mean_0_and_variance_1_over_words_as_they_occur() -> None:
    model = classifier(normed=True)
    counts = torch.arange(30)
    model.count_words(counts)
    share = (counts / counts.sum()).double()[:, None]
    mean = (share * model.embed.weight).sum(0)
    torch.testing.assert_close(mean, torch.zeros(6).double(), atol=1e-9, rtol=0)
    spread = (share * (model.embed.weight - mean).square()).sum(0)
    torch.testing.assert_close(spread, torch.ones(6).double(), atol=1e-4, rtol=0)


def test_parameters_and_multiply_adds_are_counted_from_the_configuration() -> None:
    """At the paper's sizes: 300 numbers a word, an LSTM of 128 each way, scores of 128."""
    lstm = 2 * (4 * 128 * (300 + 128) + 2 * 4 * 128)
    head = 256 * 128 + 128 + 128 + 256 + 1
    assert TextClassifier.parameters_of(TextClassifierConfig(words=10000)) == 10000 * 300 + lstm + head
    dot = TextClassifierConfig(words=10000, attention="dot")
    assert TextClassifier.parameters_of(dot) == 10000 * 300 + lstm + 256 + 256 + 1
    with torch.device("meta"):
        model, ids = TextClassifier.of("base"), torch.zeros(2, 20, dtype=torch.long)
    words = 8 * 128 * (300 + 128) + 256 * 128 + 128 + 256
    assert model.macs(ids) == 2 * (20 * words + 256)
    asking = PairClassifierConfig(words=10000, classes=3)
    more = 128 * 256 + 128 + 128 * 256 + 128 + 128 + 2 * (256 * 256 + 256) + 256 * 3 + 3
    assert PairClassifier.parameters_of(asking) == 10000 * 300 + 2 * lstm + more
    with torch.device("meta"):
        pair = PairClassifier(asking)
    scores = 20 * (256 * 128 + 128 + 256) + 256 * 128
    assert pair.macs(ids, ids[:, :5]) == 2 * (25 * 8 * 128 * 428 + scores + 2 * 256 * 256 + 256 * 3)


def test_a_question_is_heard_in_scores_and_answer_as_written_out() -> None:
    torch.manual_seed(0)
    model = PairClassifier(words=30, width=6, hidden=5, inner=4, classes=3).double()
    ids, question = batch(lengths=(6, 8)), batch(1, lengths=(3, 1))
    found = []
    for row, asked in zip(ids, question, strict=True):
        h = model.paragraph.lstm(model.embed.weight[row[row > 0]][None])[0][0]
        u = model.question.lstm(model.embed.weight[asked[asked > 0]][None])[0][0]
        q = torch.cat((u[-1, :5], u[0, 5:]))
        a, m = model.attention, (h @ model.attention.inner.weight.T + model.attention.inner.bias)
        weights = (torch.tanh(m + a.query.weight @ q + a.query.bias) @ a.score.weight[0]).softmax(-1)
        found.append(model.head(torch.tanh(model.from_context(weights @ h) + model.from_question(q))))
    torch.testing.assert_close(model(ids, question), torch.stack(found), **CLOSE)
    torch.testing.assert_close(model.weights(ids, question).sum(1), torch.ones(2).double(), **CLOSE)


def test_what_is_stored_is_what_is_read(tmp_path: Path) -> None:
    model, ids = classifier(normed=True).float(), batch()
    model.count_words(torch.arange(30))
    model.save_pretrained(tmp_path)
    assert torch.equal(Architecture.from_pretrained(tmp_path)(ids), model(ids))


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "words": ({"words": 1}, "words=1 must be at least 2"),
    "attention": ({"attention": "cosine"}, "attention='cosine' is unknown; choose one of additive, dot"),
    "inner": ({"inner": 0}, "inner=0 must be at least 1, or None"),
    "dropout": ({"dropout": 1.0}, "dropout=1.0 must be below 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_sizes_out_of_range_are_refused(case: str) -> None:
    options, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        TextClassifierConfig(**options)


def test_what_does_not_fit_is_refused() -> None:
    model, ids = classifier(), batch()
    with pytest.raises(ValueError, match="level='states' is unknown; choose one of scores, words"):
        model.perturbable(ids, level="states")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"counts of 3 words need normed=True and a vocabulary of as many"):
        model.count_words(torch.ones(3).long())
    with pytest.raises(ValueError, match="query was given; query_width says whether there is one"):
        model.attention(torch.zeros(1, 2, 10).double(), torch.zeros(1, 3).double())
    pair = PairClassifier(words=30, width=4, hidden=3, classes=2)
    with pytest.raises(ValueError, match="candidates leave a row without an answer; name at least one in each"):
        pair(ids, ids, torch.zeros(5, 2).bool())
    with pytest.raises(ValueError, match="inner=0 must be at least 1, or None"):
        PairClassifierConfig(inner=0)
