"""Training classifiers of sentences: through the loop, with and without a method, unlabelled text, hosts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from saccade.data.sentences import Sentences, Vocabulary, planted_texts
from saccade.models.text_classifier import TextClassifier
from saccade.nn.classification import accuracy_and_f1, classification_loss, predicted, probability
from saccade.papers import AttentionAT, AttentionVAT
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim
from saccade.train.sentences import SentenceLoss, SentenceStage, SentenceTask, positive_weight

VOCABULARY = Vocabulary.of(planted_texts(300, seed=1))
FIT = Fit(steps=4, precision="no", decay=0.0, optim=Optim.constant(1e-2))
METHODS = {"plain": None, "at": AttentionAT(eps=5.0), "vat": AttentionVAT(eps=5.0)}


def sentences(count: int = 60, seed: int = 1) -> Sentences:
    return VOCABULARY.encode(planted_texts(count, seed=seed))


def model(**changes: Any) -> TextClassifier:
    torch.manual_seed(0)
    return TextClassifier(words=len(VOCABULARY), width=8, hidden=4, **changes)


def trained(name: str, folder: Path) -> torch.Tensor:
    task = SentenceTask(model(dropout=0.2), sentences(), SentenceStage(fit=FIT, batch=8), METHODS[name])
    return fit(task, FIT, folder, cpu=True)["model.head.weight"]


def test_a_run_is_the_same_again_and_methods_differ(tmp_path: Path) -> None:
    plain, at, vat, again = (trained(name, tmp_path / str(i)) for i, name in enumerate(("plain", "at", "vat", "vat")))
    assert torch.equal(vat, again)
    assert not torch.equal(plain, at) and not torch.equal(plain, vat) and not torch.equal(at, vat)


def test_a_folder_of_another_method_is_not_gone_on_with(tmp_path: Path) -> None:
    stage = SentenceStage(fit=FIT, batch=8)
    fit(SentenceTask(model(), sentences(), stage, AttentionAT(eps=1.0)), FIT, tmp_path, cpu=True)
    with pytest.raises(ValueError, match="method.eps: 1.0 there, 2.0 here"):
        fit(SentenceTask(model(), sentences(), stage, AttentionAT(eps=2.0)), FIT, tmp_path, cpu=True)


def test_unlabelled_sentences_come_beside_the_labelled_by_their_ratio() -> None:
    stage, more = SentenceStage(batch=8, unlabelled=2.0), sentences(40, seed=5).unlabelled()
    batch = SentenceTask(model(), sentences(), stage, METHODS["vat"], more).batch(np.random.default_rng(0))
    assert len(batch["ids"]) == len(batch["labels"]) == 8 and len(batch["more"]) == 16
    task = SentenceTask(model(), sentences(), stage, METHODS["vat"], more)
    losses = task.module(batch)
    assert set(losses) == {"loss", "clean", "virtual"} and float(losses["virtual"].detach()) > 0
    assert "more" not in SentenceTask(model(), sentences(), stage, METHODS["vat"]).batch(np.random.default_rng(0))
    none = SentenceTask(model(), sentences(), stage, METHODS["vat"], more.take(slice(0, 1)))
    assert len(none.batch(np.random.default_rng(0))["more"]) == 1


@pytest.mark.parametrize("name", ["at", "vat"])
def test_evaluation_is_the_plain_loss(name: str) -> None:
    drawn = SentenceTask(model(), sentences(), SentenceStage(batch=8)).batch(np.random.default_rng(0))
    plain = SentenceLoss(model()).eval()(drawn)["loss"]
    found = SentenceLoss(model(), METHODS[name]).eval()(drawn)
    assert set(found) == {"loss"} and torch.equal(found["loss"], plain)


def test_positive_sentences_weigh_as_much_as_the_others_outnumber_them() -> None:
    labels = torch.tensor([1, 0, 0, 0])
    assert positive_weight(labels) == 3
    logits = torch.tensor([[0.3], [-1.0], [2.0], [0.1]])
    by_hand = (3 * F.softplus(-logits[0]) + F.softplus(logits[1:]).sum()) / 4
    torch.testing.assert_close(classification_loss(logits, labels, 3.0), by_hand[0])
    several = torch.randn(4, 3)
    torch.testing.assert_close(classification_loss(several, labels), F.cross_entropy(several, labels))
    with pytest.raises(ValueError, match="labels hold no 1"):
        positive_weight(torch.zeros(3).long())


def test_predictions_of_one_logit_and_of_several() -> None:
    one, two = torch.tensor([[0.5], [-0.5]]), torch.tensor([[0.0, 1.0], [3.0, 0.0]])
    assert predicted(one).tolist() == [1, 0] and predicted(two).tolist() == [1, 0]
    torch.testing.assert_close(probability(one), one[:, 0].sigmoid())
    torch.testing.assert_close(probability(two), two.softmax(-1).amax(-1))
    scores = accuracy_and_f1(torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 0, 1]))
    assert scores == {"accuracy": 0.5, "f1": 0.5} and accuracy_and_f1(*torch.zeros(2, 3).long())["f1"] == 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="sentences have no labels; give labelled ones"):
        SentenceTask(model(), sentences().unlabelled(), SentenceStage())
    other = Vocabulary(("w1", "w2")).encode(planted_texts(50, seed=1))
    with pytest.raises(ValueError, match=rf"of 3 words, the labelled ones of {len(VOCABULARY)}; encode both by one"):
        SentenceTask(model(), sentences(), SentenceStage(), METHODS["vat"], other)
    with pytest.raises(ValueError, match="labels are missing; text without any goes beside a labelled batch"):
        SentenceLoss(model())({"ids": sentences().ids})
    with pytest.raises(ValueError, match="batch=0 must be above 0"):
        SentenceStage(batch=0)


@pytest.mark.host
@pytest.mark.parametrize("name", ["at", "vat"])
def test_a_host_is_trained_through_the_same_loop(name: str, tmp_path: Path) -> None:
    from saccade.attach import attach
    from saccade.systems.score_shift import AttachedClassifier
    from tests.systems.test_score_shift import bert

    host, method = bert(vocab_size=len(VOCABULARY)), METHODS[name]
    before = host.classifier.weight.detach().clone()
    with attach(host, method):
        wrapped = AttachedClassifier(host, method.scores)
        task = SentenceTask(
            wrapped,
            sentences(),
            SentenceStage(fit=FIT, batch=4),
            method,
            sentences().unlabelled() if name == "vat" else None,
        )
        fit(task, FIT, tmp_path, cpu=True)
    assert not torch.equal(host.classifier.weight, before)
