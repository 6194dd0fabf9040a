"""What the experiment on PATNet compares: arms and blocks of about one cost, and controls that differ in one thing."""

import pytest
import torch

from saccade.data.labelled import open_scenes
from saccade.experiments import Results
from saccade.models.macs import macs
from saccade.papers.patnet.control_mixers import MeanGate, WholePAT
from saccade.papers.patnet.experiment import (
    ARMS,
    SELF,
    VIT,
    WHOLE,
    Settings,
    depthwise_block,
    faster,
    made,
    pconv_block,
    whole_brings_little,
)


def test_arms_cost_about_the_same() -> None:
    source, x = open_scenes(32, label="colour", count=1, held=1), torch.zeros(1, 3, 32, 32)
    costs = {arm: macs(made(arm, Settings(), source).eval(), x) for arm in ARMS}
    assert all(abs(cost / costs[SELF] - 1) < (0.15 if arm == VIT else 0.01) for arm, cost in costs.items())


def test_blocks_on_the_clock_cost_the_same() -> None:
    x = torch.zeros(1, 32, 8, 8)
    assert abs(macs(depthwise_block(32, x), x) / macs(pconv_block(32), x) - 1) < 0.02


def test_a_gate_by_means_does_not_see_deviations() -> None:
    gate, x = MeanGate(6).eval(), torch.randn(2, 6, 4, 4)
    torch.testing.assert_close(
        gate.gate(x), gate.gate(x.mean((2, 3), keepdim=True) + (x - x.mean((2, 3), keepdim=True)) * 3)
    )


def test_a_gate_on_all_channels_weighs_the_convolved_ones_too() -> None:
    layer, x = WholePAT(8).eval(), torch.randn(2, 8, 4, 4)
    whole = torch.cat((layer.conv(x[:, :2]), x[:, 2:]), dim=1)
    torch.testing.assert_close(layer(x), layer.norm(whole * layer.gate.gate(whole)))


def test_claims_on_accuracy_and_speed_are_decided_by_their_intervals() -> None:
    rows = [
        {"arm": arm, "seed": seed, "accuracy": accuracy + seed / 1000}
        for arm, accuracy in ((WHOLE, 0.505), (SELF, 0.5))
        for seed in range(3)
    ]
    speed = [{"faster": 1.5, "low": 1.4, "high": 1.6}, {"faster": 1.2, "low": 1.1, "high": 1.3}]
    found = Results(device="", date="", versions={}, settings={"rounds": 3}, tables={"arms": rows, "speed": speed})
    assert whole_brings_little(found).mid == pytest.approx(0.015)
    assert (faster(found).low, faster(found).high) == pytest.approx((0.1, 0.3))
