"""Multi-query associative recall: pairs of a key and a value, then keys whose values are asked for.

    k1 v1 k2 v2 .. kP vP, then keys again, in any order: what each is to be followed by is its value

Only those answers count, and none is shown, so that a value must be found among the stored pairs.

Source: Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models" (2023).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.models.architecture import Prediction
from saccade.nn.eval_mode import eval_mode
from saccade.nn.part import TokenPositions
from saccade.nn.registry import mixer
from saccade.nn.steering import muon_names
from saccade.papers.dma.lifetimes import key_lifetimes
from saccade.papers.dma.mixer import DynamicMaskAttention

Batch = dict[str, Tensor]


@mixer("latest_keys")
class LatestKeys(DynamicMaskAttention):
    """The same layer without scores: every query keeps the latest `window` keys, a sliding window."""

    def __init__(self, width: int, heads: int, **options: Any) -> None:
        super().__init__(width, heads, **options)
        del self.A, self.dt_proj

    def reset(self) -> None:
        """Normal weights of deviation 0.02."""
        for each in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            nn.init.normal_(each.weight, std=0.02)

    def score(self, v: Float[Tensor, "b g n e"]) -> Float[Tensor, "b g n"]:
        """Alike for all."""
        return v.new_zeros(v.shape[:3])


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Texts of `length` tokens that begin with `pairs` pairs; half of the `vocabulary` are keys, half values."""

    vocabulary: int
    length: int
    pairs: int

    def texts(self, rng: np.random.Generator, count: int) -> Batch:
        """`ids` (count, length), and `answers`: the value where one is asked for, -100 elsewhere."""
        half, stored = self.vocabulary // 2, 2 * self.pairs
        keys = rng.permuted(np.tile(np.arange(half), (count, 1)), axis=1)[:, : self.pairs]
        values = rng.integers(half, self.vocabulary, size=keys.shape)
        asked = rng.integers(self.pairs, size=(count, self.length - stored))
        shown = np.stack((keys, values), axis=2).reshape(count, stored)
        ids = np.concatenate((shown, np.take_along_axis(keys, asked, axis=1)), axis=1)
        answered = np.take_along_axis(values, asked, axis=1)
        answers = np.concatenate((np.full_like(shown, -100), answered), axis=1)
        return {"ids": torch.from_numpy(ids), "answers": torch.from_numpy(answers)}

    @property
    def values(self) -> Bool[Tensor, " n"]:
        """Where the stored values stand."""
        place = torch.arange(self.length)
        return (place < 2 * self.pairs) & (place % 2 == 1)


class RecallLoss(nn.Module):
    """Mean nats of an answer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        found: Prediction = self.model(batch["ids"])
        return {"loss": F.cross_entropy(found.out.flatten(0, 1), batch["answers"].flatten())}


class RecallTask:
    """A `Task`: texts made anew in every step."""

    def __init__(self, model: nn.Module, recall: Recall, batch: int) -> None:
        self.module, self.recall, self.size = RecallLoss(model), recall, batch
        self._muon = muon_names(self.module)

    def batch(self, rng: np.random.Generator) -> Batch:
        return self.recall.texts(rng, self.size)

    def uses_muon(self, name: str) -> bool:
        return name in self._muon

    def sheet(self) -> None:
        """No picture."""


@torch.no_grad()
def recalled(model: nn.Module, batch: Batch) -> float:
    """Share of the answers that are right."""
    with eval_mode(model):
        answered = model(batch["ids"]).out.argmax(-1)
    asked = batch["answers"] >= 0
    return float((answered == batch["answers"])[asked].float().mean())


@torch.no_grad()
def keys_kept(model: Any, batch: Batch, values: Bool[Tensor, " n"]) -> list[tuple[float, float]]:
    """By layer the mean number of keys that a query keeps, and the share of stored values kept where one is asked."""
    asked = batch["answers"] >= 0
    kept = [
        _kept(block.mixer, score) for block, score in zip(model.blocks, scores_of(model, batch["ids"]), strict=True)
    ]
    return [(float(each.float().sum(-1).mean()), float(_at(each, asked)[..., values].float().mean())) for each in kept]


def lives(model: Any, ids: Int[Tensor, "1 n"]) -> list[int]:
    """For each token of one text the first query by which the last layer's first head has dropped its key."""
    window = model.blocks[-1].mixer.choice.window
    return key_lifetimes(scores_of(model, ids)[-1], window).until[0, 0].tolist()


@torch.no_grad()
def scores_of(model: Any, ids: Int[Tensor, "b n"]) -> list[Float[Tensor, "b g n"]]:
    """The scores of every layer's keys."""
    scores: list[Float[Tensor, "b g n"]] = []
    hooks = [
        block.mixer.register_forward_hook(lambda mixer, args, _: scores.append(_scores(mixer, *args)))
        for block in model.blocks
    ]
    with eval_mode(model):
        model(ids)
    for hook in hooks:
        hook.remove()
    return scores


def _scores(mixer: DynamicMaskAttention, x: Tensor, place: TokenPositions) -> Float[Tensor, "b g n"]:
    return mixer.score(mixer.operands(x, place)[2])


def _kept(mixer: DynamicMaskAttention, score: Tensor) -> Bool[Tensor, "b g n m"]:
    n = score.shape[2]
    return mixer.choice.map(score[:, :, None], n).expand(*score.shape[:2], n, n)


def _at(kept: Tensor, asked: Bool[Tensor, "b n"]) -> Bool[Tensor, "q g m"]:
    """The rows of queries that are asked something."""
    return kept.transpose(1, 2)[asked]
