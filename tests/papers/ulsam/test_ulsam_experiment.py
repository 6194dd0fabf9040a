"""What the experiment on ULSAM compares: arms, their costs, and how its claims are decided."""

import torch
from torch import nn

from saccade.experiments import Results
from saccade.models import ViT
from saccade.papers.ulsam.experiment import (
    ARMS,
    BLOCK,
    FOUR,
    LAYER,
    LEFT_OUT,
    NEAR,
    VIT,
    Settings,
    cost,
    made,
    near,
    pictures_of,
    seen,
)
from saccade.papers.ulsam.subspace_attention import ULSAM

TINY = Settings(source="scenes", multiplier=0.1, pictures=8)


def test_arms_differ_in_one_layer() -> None:
    source = pictures_of(TINY)
    models = {arm: made(arm, TINY, source) for arm in ARMS}
    assert isinstance(models[LEFT_OUT].blocks[LAYER - 2], nn.Identity)
    assert isinstance(models[FOUR].blocks[LAYER - 2], ULSAM)
    x = torch.zeros(1, 3, TINY.side, TINY.side)
    costs = {arm: cost(model, x) for arm, model in models.items()}
    assert costs[LEFT_OUT] < costs[FOUR] < costs[BLOCK] and models[BLOCK].training
    assert isinstance(models[VIT], ViT) and 0.7 < costs[VIT] / costs[BLOCK] < 1.4


def test_maps_are_those_of_the_module() -> None:
    source = pictures_of(TINY)
    model = made(FOUR, TINY, source).eval()
    maps = seen(model, source, 8)
    assert maps.shape[:2] == (8, 4)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(8, 4))
    assert not any(part._forward_pre_hooks for part in model.modules())


def test_a_cost_of_less_than_the_bound_is_confirmed() -> None:
    rows = [
        {"arm": arm, "seed": seed, "accuracy": accuracy + seed / 1000}
        for arm, accuracy in ((BLOCK, 0.5), (FOUR, 0.49))
        for seed in range(3)
    ]
    found = near(Results(device="", date="", versions={}, tables={"arms": rows}))
    assert abs(found.mid - (NEAR - 0.01)) < 1e-9 and found.low <= found.mid <= found.high
