"""What a trained classifier of sentences is worth: accuracy, and whether its attention says what it goes by."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.data.sentences import PAD, Sentences
from saccade.metrics.explanations import (
    Importance,
    average_precision,
    entropy,
    gradient_importance,
    iou_f1,
    kendall,
    pearson,
    precision_at_k,
)
from saccade.nn.adversarial import adversarial, gradient, make_basis
from saccade.nn.classification import accuracy_and_f1, classification_loss, predicted, probability
from saccade.nn.eval_mode import eval_mode
from saccade.nn.score_basis import BasisName


def judged(model: nn.Module, sentences: Sentences) -> dict[str, float]:
    """Accuracy and F1 of label 1; means over sentences of `explained`, those left out whose score is nan."""
    found, rows = [], []
    with eval_mode(model):
        for part in sentences.in_turn():
            assert part.labels is not None
            found.append(torch.stack((predicted(model(part.ids)), part.labels)))
            rows.append(explained(model, part))
    means = {name: float(torch.cat([row[name] for row in rows]).nanmean()) for name in rows[0]}
    return accuracy_and_f1(*torch.cat(found, 1)) | means


def explained(model: Any, part: Sentences, kind: Importance = "product") -> dict[str, Tensor]:
    """Of every sentence: correlation of attention and importance by gradient, entropy, agreement with a rationale."""
    keep = part.ids != PAD
    with torch.no_grad():
        weights = model.weights(part.ids)
    importance = word_importance(model, part.ids, kind)
    found = {
        "pearson": pearson(weights, importance, keep),
        "kendall": kendall(weights, importance, keep),
        "entropy": entropy(weights, keep),
    }
    if part.rationale is not None:
        for name, score in (("auprc", average_precision), ("precision", precision_at_k), ("iou_f1", iou_f1)):
            found[name] = score(weights, part.rationale, keep)
    return found


def word_importance(model: Any, ids: Int[Tensor, "b t"], kind: Importance = "product") -> Float[Tensor, "b t"]:
    """How the probability of what is predicted hangs on each word."""
    seen = model.perturbable(ids, level="words")
    slope = gradient(seen, lambda logits: probability(logits).sum())
    return gradient_importance(seen.values, slope, kind)


def attacked(
    model: Any, sentences: Sentences, eps: float, basis: BasisName = "free"
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Labels, logits as they are, and logits under the scores' worst perturbation of norm `eps`, part by part."""
    with eval_mode(model):
        for part in sentences.in_turn():
            assert part.labels is not None
            seen, loss = model.perturbable(part.ids), partial(classification_loss, labels=part.labels)
            r = adversarial(seen, loss, eps, make_basis(seen, basis))
            with torch.no_grad():
                yield part.labels, seen.clean.detach(), seen.run(r)


@torch.no_grad()
def score_spread(model: Any, sentences: Sentences) -> float:
    """Standard deviation of attention scores over all words: the measure for the size of a perturbation."""
    with eval_mode(model):
        seen = [model.perturbable(part.ids) for part in sentences.in_turn()]
    return float(torch.cat([each.values[each.keep] for each in seen]).std(correction=0))
