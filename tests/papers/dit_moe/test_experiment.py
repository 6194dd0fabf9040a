"""The measurements of DiT-MoE's experiment."""

from typing import Any

import pytest
import torch

from saccade.analysis.routing import information
from saccade.data.labelled import open_source
from saccade.experiments import Results
from saccade.models import DiT
from saccade.nn.routing import record_routing
from saccade.papers.dit_moe.experiment import Settings, arms, over_class
from saccade.papers.dit_moe.expert_cost import cost_row
from saccade.papers.dit_moe.expert_usage import by_chance, by_group, counted, recorded, routing_rows
from saccade.train.costs import multiply_adds

SIZES: dict[str, Any] = {"width": 32, "depth": 2, "heads": 2, "side": 16, "channels": 3, "classes": 6}


def test_all_arms_have_as_many_multiply_adds() -> None:
    costs = [
        multiply_adds(DiT(**SIZES, ffn=ffn, learned_variance=False), SIZES)
        for ffn in arms(Settings(width=32, depth=2)).values()
    ]
    assert max(costs) / min(costs) < 1.01


def test_rows_name_the_block_of_every_router_and_shares_lie_between_0_and_1() -> None:
    source = open_source("scenes", 16, count=8, held=8)
    ffn = arms(Settings(width=32, depth=2))["deep half"]
    sizes: dict[str, Any] = SIZES | {"classes": source.classes}
    model = DiT(**sizes, ffn=ffn, learned_variance=False, time_scale=1000.0)
    labels = torch.arange(source.classes)
    found = recorded(model, source, labels, steps=2)
    (row,) = routing_rows(found, labels)
    assert row["layer"] == 1 and all(0 <= row[name] <= 1 for name in ("place", "step", "class", "chance"))
    groups = {each["group"]: each["counts"] for each in by_group(found, labels)}
    assert [len(groups[name]) for name in ("place", "step", "class")] == [64, 2, source.classes]


def test_dealing_out_labels_that_are_all_different_tells_as_much_as_the_labels() -> None:
    torch.manual_seed(0)
    model, labels = DiT(**SIZES, ffn="moe(experts=4)", learned_variance=False), torch.arange(6)
    with record_routing(model.eval()) as found, torch.no_grad():
        model(torch.randn(6, 3, 16, 16), torch.rand(6), labels)
    torch.testing.assert_close(by_chance(found, labels), information(counted(found, labels).classes))


@pytest.mark.parametrize(("of_class", "expected"), [(0.04, 0.08), (0.01, 0.1)])
def test_a_class_below_chance_counts_as_nothing(of_class: float, expected: float) -> None:
    row = {"arm": "a", "seed": 0, "place": 0.1, "class": of_class, "chance": 0.02}
    found = Results(device="", date="", versions={}, tables={"routing": [row]})
    assert over_class("place")(found, "a") == {0: pytest.approx(expected)}


def test_ratios_of_time_are_ordered() -> None:
    row = cost_row(8, rounds=3)
    assert 0 < row["low"] <= row["ratio"] <= row["high"] and row["dense_ms"] > 0
