"""Losses and answers of classifiers with several logits, (b c), or with one for a yes or no, (b) or (b 1)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

Logits = Float[Tensor, " b"] | Float[Tensor, "b c"]


def is_binary(logits: Logits) -> bool:
    """Whether there is one logit a row."""
    return logits.ndim == 1 or logits.shape[1] == 1


def classification_loss(logits: Logits, labels: Int[Tensor, " b"], weight: float | Tensor = 1.0) -> Float[Tensor, ""]:
    """Cross-entropy of several logits, or of one, where label 1 weighs `weight` times as much as 0; mean over rows.

    weight   one number, or one for each row
    """
    if not is_binary(logits):
        return F.cross_entropy(logits, labels)
    weight = torch.as_tensor(weight, dtype=logits.dtype, device=logits.device).flatten()
    return F.binary_cross_entropy_with_logits(logits.flatten(), labels.to(logits.dtype), pos_weight=weight)


def log_probabilities(logits: Logits) -> Float[Tensor, "b k"]:
    """Of every class; of one logit, those of 1 and 0."""
    if is_binary(logits):
        return F.logsigmoid(torch.stack((logits.flatten(), -logits.flatten()), -1))
    return logits.log_softmax(-1)


def probability(logits: Logits) -> Float[Tensor, " b"]:
    """Of the class that is predicted; of label 1 where there is one logit."""
    return logits.flatten().sigmoid() if is_binary(logits) else logits.softmax(-1).amax(-1)


def predicted(logits: Logits) -> Int[Tensor, " b"]:
    """The class."""
    return (logits.flatten() > 0).long() if is_binary(logits) else logits.argmax(-1)


def accuracy_and_f1(guess: Int[Tensor, " n"], labels: Int[Tensor, " n"]) -> dict[str, float]:
    """Share of right answers, and the F1 of label 1."""
    right = float(((guess == 1) & (labels == 1)).sum())
    said = float((guess == 1).sum() + (labels == 1).sum())
    return {"accuracy": float((guess == labels).float().mean()), "f1": 2 * right / said if said else 0.0}
