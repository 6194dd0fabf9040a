"""What trained classifiers are judged by: importance by gradient written out, attacks, and known evidence."""

import torch

from saccade.analysis.attention_importance import attacked, explained, judged, score_spread, word_importance
from saccade.data.sentences import Vocabulary, planted_texts
from saccade.models.text_classifier import TextClassifier
from saccade.nn.classification import classification_loss
from tests.small_text import batch, classifier

TEXTS = planted_texts(60, seed=2)
SENTENCES = Vocabulary.of(TEXTS).encode(TEXTS)


def test_importance_is_the_gradient_of_the_probability_by_each_embedding() -> None:
    for classes in (1, 3):
        model, ids = classifier(classes=classes), batch()
        e = model.embed(ids).detach().requires_grad_()
        logits = model.from_embeddings(e, ids > 0)
        p = logits.sigmoid()[:, 0] if classes == 1 else logits.softmax(-1).max(-1).values
        (g,) = torch.autograd.grad(p.sum(), e)
        torch.testing.assert_close(word_importance(model, ids), (e * g).sum(-1).abs().detach(), atol=1e-12, rtol=0)
        assert model.embed.table.weight.grad is None


def seeing(evidence: bool) -> TextClassifier:
    """A model whose states are its words' one number, which is high for planted words, or for all others."""
    torch.manual_seed(0)
    model = TextClassifier(words=SENTENCES.words, width=4, hidden=4, attention="dot")
    planted = torch.tensor([False] + [not w.startswith("w") for w in Vocabulary.of(TEXTS).words])
    model.embed.table.weight.data = torch.where(planted == evidence, 3.0, -3.0)[:, None].expand(-1, 4).clone()
    model.encoder.forward = lambda x, keep: torch.cat((x, x), -1)  # type: ignore[method-assign]
    model.attention.score.weight.data.fill_(1.0)
    return model


def test_attention_to_the_evidence_is_told_from_attention_to_the_rest() -> None:
    good, bad = (judged(seeing(evidence), SENTENCES) for evidence in (True, False))
    assert good["auprc"] == good["precision"] == good["iou_f1"] == 1 and bad["precision"] == 0 and bad["auprc"] < 0.5
    assert {"accuracy", "f1", "pearson", "kendall", "entropy"} < set(good) and good["entropy"] < 0.7
    assert set(explained(seeing(True), SENTENCES.take(slice(0, 4)))) == {*good} - {"accuracy", "f1"}


def test_an_attack_costs_more_the_larger_it_is_and_none_changes_nothing() -> None:
    model = classifier(words=SENTENCES.words, width=6, hidden=5, inner=4)
    losses = []
    for eps in (0.0, 0.5, 5.0):
        parts = list(attacked(model, SENTENCES, eps))
        labels, clean, moved = (torch.cat(x) for x in zip(*parts, strict=True))
        assert eps or torch.equal(clean, moved)
        losses.append(float(classification_loss(moved, labels)))
    assert losses[0] < losses[1] < losses[2] and len(labels) == len(SENTENCES)


def test_the_spread_of_scores_is_over_words_that_are_there() -> None:
    model = classifier(words=SENTENCES.words)
    seen = model.perturbable(SENTENCES.ids)
    assert abs(score_spread(model, SENTENCES) - float(seen.values[seen.keep].std(correction=0))) < 1e-9
