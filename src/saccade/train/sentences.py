"""Train a classifier of sentences, plainly or by a method that perturbs what it read; with unlabelled text if wanted.

A method is handed a batch as it was read (`Perturbable`) and the loss of its logits, and names the losses it adds.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int
from torch import Tensor, nn

from saccade.data.sentences import Sentences
from saccade.models.text_classifier import Level
from saccade.nn.classification import classification_loss
from saccade.nn.perturbable import Perturbable
from saccade.train.checks import check_positive
from saccade.train.loop import Fit
from saccade.train.optimisers import Optim
from saccade.train.settings import flat, named

Batch = dict[str, Tensor]


class Method(Protocol):
    """How a loss is regularised; `level`: what is perturbed; `share_dropout`: passes draw the same masks."""

    @property
    def level(self) -> Level: ...

    @property
    def share_dropout(self) -> bool: ...

    def losses(
        self, seen: Perturbable, loss: Callable[[Tensor], Tensor], unlabelled: Perturbable | None = None
    ) -> dict[str, Tensor]:
        """Named losses, of which "loss" is minimised."""
        ...


@dataclass(frozen=True, kw_only=True)
class SentenceStage:
    """`batch`: sentences with labels; `unlabelled`: those without, as a multiple of it.

    Raises ValueError for options out of range.
    """

    fit: Fit = field(default_factory=lambda: Fit(steps=650, precision="no", decay=0.0, optim=Optim.constant(1e-3)))
    batch: int = 32
    unlabelled: float = 1.0

    def __post_init__(self) -> None:
        check_positive(batch=self.batch, unlabelled=self.unlabelled)


class SentenceLoss(nn.Module):
    """The losses of a batch {"ids", "labels", "more"}; in evaluation mode the plain loss alone.

    model    logits of ids (b t), and `perturbable`
    method   None for the plain loss
    weight   of a sentence whose label is 1, where there is one logit
    """

    def __init__(self, model: nn.Module, method: Method | None = None, weight: float = 1.0) -> None:
        super().__init__()
        self.model, self.method, self.weight = model, method, weight
        self.checked = False

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Raises ValueError for a batch without labels."""
        if batch.get("labels") is None:
            raise ValueError("labels are missing; text without any goes beside a labelled batch, as unlabelled")
        loss = self.loss_of(batch["labels"])
        if self.method is None or not self.training:
            return {"loss": loss(self.model(batch["ids"]))}
        more = self.seen(batch["more"]) if "more" in batch else None
        return self.method.losses(self.seen(batch["ids"]), loss, more)

    def loss_of(self, labels: Int[Tensor, " b"]) -> Callable[[Tensor], Tensor]:
        """The supervised loss as a function of logits."""
        return lambda logits: classification_loss(logits, labels, self.weight)

    def seen(self, ids: Int[Tensor, "b t"]) -> Perturbable:
        """A batch as the model read it."""
        assert self.method is not None
        share, model = self.method.share_dropout, self.model
        found: Perturbable = model.perturbable(ids, level=self.method.level, share_dropout=share)  # type: ignore[operator]
        if not self.checked and self.method.level == "scores":
            found.check_scores()
        self.checked = True
        return found


class SentenceTask:
    """A `Task`: tell the labels of sentences.

    Raises ValueError for sentences without labels, and for unlabelled ones of another vocabulary.
    """

    def __init__(
        self,
        model: nn.Module,
        sentences: Sentences,
        stage: SentenceStage,
        method: Method | None = None,
        unlabelled: Sentences | None = None,
    ) -> None:
        if sentences.labels is None:
            raise ValueError("sentences have no labels; give labelled ones, and the others as unlabelled=")
        if unlabelled is not None and unlabelled.words != sentences.words:
            raise ValueError(
                f"unlabelled sentences are of {unlabelled.words} words, the labelled ones of {sentences.words}; "
                "encode both by one vocabulary"
            )
        weight = positive_weight(sentences.labels) if int(sentences.labels.max()) < 2 else 1.0
        self.module = SentenceLoss(model, method, weight)
        self.sentences, self.unlabelled, self.stage = sentences, unlabelled, stage

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the result beside the model and the data."""
        method = {} if self.module.method is None else {"method": named(self.module.method)}
        return flat(self.stage) | method

    def batch(self, rng: np.random.Generator) -> Batch:
        drawn = self.sentences.batch(rng, self.stage.batch)
        assert drawn.labels is not None
        found = {"ids": drawn.ids, "labels": drawn.labels}
        if self.unlabelled is None or len(self.unlabelled) == 0:
            return found
        size = max(1, round(self.stage.batch * self.stage.unlabelled))
        return found | {"more": self.unlabelled.batch(rng, size).ids}

    def uses_muon(self, name: str) -> bool:
        return False

    def sheet(self) -> None:
        return None


def positive_weight(labels: Int[Tensor, " n"]) -> float:
    """How many sentences of label 0 there are for each of label 1.

    Raises ValueError where none is labelled 1.
    """
    positive = int((labels == 1).sum())
    if positive == 0:
        raise ValueError("labels hold no 1, so that there is nothing to tell; give sentences of both classes")
    return len(labels) / positive - 1
