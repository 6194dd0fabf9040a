"""Pieces of the experiment: arms alike in size, recall of pairs, scores by layer."""

import numpy as np
import torch

from saccade.models.sizing import build, parameters
from saccade.papers.deconstructing_attention.experiment import (
    HYBRID,
    HYBRIDS,
    STANDARD,
    VARIANTS,
    Settings,
    arms,
    comparison,
    position_logits,
)
from saccade.papers.deconstructing_attention.model import DeconstructedLM
from saccade.papers.deconstructing_attention.recall import Recall, RecallLoss

TINY = Settings(source="captions", depth=2, width=16, length=8)


def test_all_arms_have_the_parameters_of_the_standard_one() -> None:
    compared = comparison(TINY, 0)
    source = compared.open()
    made = {arm.name: build(arm.model, **compared.base(source)) for arm in arms(TINY, source)}
    assert {*made} == {STANDARD, *VARIANTS, *(f"{name}{HYBRID}" for name in HYBRIDS)}
    sizes = {name: parameters(model) for name, model in made.items()}
    normed = sizes.pop("nonapprox, normed")
    assert len({*sizes.values()}) == 1 and 0 < normed - sizes[STANDARD] < 100  # scales and shifts of q and k
    kinds = {name: model.config.replaced for name, model in made.items()}
    assert kinds["mlp"] == (True, True) and kinds[f"mlp{HYBRID}"] == (True, False) and kinds[STANDARD] == (False, False)


def test_pairs_come_back_in_another_order_with_their_values() -> None:
    recall = Recall(keys=5, pairs=4)
    ids = recall.draw(np.random.default_rng(0), 50)
    first, second = ids.view(50, 2, 4, 2).unbind(1)
    assert (ids[:, 0::2] < 5).all() and (ids[:, 1::2] >= 5).all() and ids.max() < 10
    for row in range(50):
        pairs = {int(k): int(v) for k, v in first[row]}
        assert len(pairs) == 4 and {int(k): int(v) for k, v in second[row]} == pairs
    assert not torch.equal(first, second) and torch.equal(recall.wanted(ids), second[..., 1])


def test_recall_is_scored_where_the_value_is_told() -> None:
    recall = Recall(keys=3, pairs=2)
    ids = recall.draw(np.random.default_rng(0), 4)

    class Knows(torch.nn.Module):
        """Says at each token what follows it."""

        def forward(self, given: torch.Tensor) -> object:
            out = 50.0 * torch.nn.functional.one_hot(ids[:, 1 : given.shape[1] + 1], 6)
            return type("Found", (), {"out": out})

    assert torch.equal(recall.logits(Knows(), ids).argmax(-1), recall.wanted(ids))
    assert float(RecallLoss(Knows(), recall)({"ids": ids})["loss"]) < 1e-6


def test_scores_are_of_the_layers_that_have_some() -> None:
    model = DeconstructedLM(vocabulary=11, depth=4, width=16, heads=2, variant="nonapprox", layout="even")
    found = position_logits(model, torch.zeros(1, 5, dtype=torch.long))
    assert list(found) == [1, 3] and all(value > 0 for value in found.values())
