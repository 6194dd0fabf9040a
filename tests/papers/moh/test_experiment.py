"""The measurements of MoH's experiment."""

import pytest
import torch

from saccade.experiments import Results
from saccade.models.dit import DiT
from saccade.papers.moh.experiment import SIX, conversion_claims
from saccade.papers.moh.head_usage import TIMES, apart, entropy, head_usage, shares
from saccade.papers.moh.trained_arms import RandomHeads, RandomRouter


def test_random_heads_pick_distinct_candidates_with_weight_one() -> None:
    routing = RandomRouter(candidates=4, k=2)(torch.zeros(3, 50, 8))
    assert routing.index.shape == (3, 50, 2) and (routing.index[..., 0] != routing.index[..., 1]).all()
    assert (routing.weight == 1).all() and len(routing.index.unique()) == 4
    assert isinstance(RandomHeads(24, 6, shared=2, routed=2).gates.router, RandomRouter)


def test_even_use_has_entropy_one_and_a_single_head_none() -> None:
    picks = torch.tensor([[1.0, 1, 1, 1], [8, 0, 0, 0]]).view(2, 1, 1, 1, 4)
    assert entropy(shares(*picks)).tolist() == pytest.approx([1, 0])


def test_distance_of_groups_is_total_variation() -> None:
    groups = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]])
    assert apart(groups) == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert apart(groups[:1].expand(2, -1, -1)) == 0


def test_usage_counts_every_time_and_class() -> None:
    torch.manual_seed(0)
    model = DiT(
        depth=2,
        width=24,
        heads=6,
        side=8,
        channels=3,
        classes=3,
        mixer="moh(shared=2, routed=2)",
        learned_variance=False,
    )
    found = head_usage(model, torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert len(found["entropy_by_time"]) == len(TIMES) and len(found["entropy_by_colour"]) == 3
    assert 0.25 <= found["largest_share"] <= 1 and 0 < found["entropy"] <= 1
    assert all(0 <= found[f"apart_by_{what}"] <= 1 for what in ("time", "colour", "chance"))


def test_what_a_conversion_costs_and_wins_back_decides_its_claims() -> None:
    rows = [
        {"seed": seed, "arm": arm, "untuned": untuned + seed * 1e-4, "regained": back, "quality": quality}
        for seed in range(3)
        for arm, untuned, back, quality in ((SIX, 0.1, None, None), ("four of six", 0.2, 0.9, 0.99 + seed * 1e-4))
    ]
    found = Results(device="", date="", versions={}, tables={"conversion": rows})
    verdicts = [claim.verdict(found) for claim in conversion_claims("four of six")]
    assert verdicts == ["confirmed", "refuted", "confirmed"]
