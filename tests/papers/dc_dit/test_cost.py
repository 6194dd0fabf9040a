"""The published costs, and the same counted as a forward runs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from saccade.nn.part import TokenPositions
from saccade.papers import DCDiT
from saccade.papers.dc_dit.cost import dit_flops, flops, matched_steps
from saccade.papers.dc_dit.model import SIZES, DCDiTConfig

TINY = DCDiTConfig(layout=("c2", ("D2",), "c3"), width=64, heads=2, narrow=32, side=8, channels=3, classes=5)


@pytest.mark.parametrize(("size", "giga"), [("S", 15.12), ("B", 57.92), ("XL", 263.98)])
def test_published_totals_at_a_token_for_each_2x2_cells(size: str, giga: float) -> None:
    assert round(flops(SIZES[size], 256).published / 1e9, 2) == giga


def test_published_parts() -> None:
    cost = flops(SIZES["S"], 256)
    found = [round(part / 1e9, 3) for part in (cost.encoder, cost.router, cost.main, cost.dechunk, cost.decoder)]
    assert found == [1.265, 0.415, 12.115, 0.05, 1.265]


def test_parts_counted_as_they_run() -> None:
    model, x, c = DCDiT(TINY), torch.randn(1, 64, 32), torch.randn(1, 64)
    wide, place, stage = torch.randn(1, 64, 64), TokenPositions(grid=(8, 8)), model.stage
    counted = {
        "embedding": _counted(lambda: (model.pixels(torch.randn(1, 3, 8, 8)), model.time(torch.zeros(1)))),
        "encoder": _counted(lambda: stage.encoder(x, c, place)),
        "around": _counted(lambda: stage.residual(wide)),
        "router": _counted(lambda: stage.router(wide, place)),
        "decoder": _counted(lambda: stage.decoder(wide, c, place)),
        "head": _counted(lambda: model.final(x, c)),
    }
    cost = flops(TINY, 40)
    assert counted == {name: getattr(cost, name) for name in counted}


def test_the_main_network_grows_as_tokens_and_as_pairs() -> None:
    one, two, four = (flops(TINY, m).main for m in (10, 20, 40))
    pairs = 2 * 2 * (4 * 32 + 3)  # depth, heads
    assert (four - two) - 2 * (two - one) == pairs * (40**2 - 3 * 20**2 + 2 * 10**2)
    linear = 2 * 24 * 64**2
    assert two - one == linear * 10 + pairs * (20**2 - 10**2)


def _counted(call: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_a_dit_costs_as_the_blocks_on_its_patches() -> None:
    assert dit_flops(SIZES["S"]) - flops(SIZES["S"], 256).main == pytest.approx(0.0105e9, rel=0.01)


def test_matched_steps_cost_what_the_other_training_costs() -> None:
    budgets = [flops(SIZES["S"], 256 * (1 - tenths / 10)).published for tenths in range(7)]
    dit = dit_flops(SIZES["S"])
    steps = matched_steps(dit, budgets)
    spent = 5_000 * budgets[0] + (steps - 5_000) * sum(budgets) / 7
    assert spent == pytest.approx(400_000 * dit)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"router": "neighbours"}, "router='neighbours' is not counted"),
        ({"mixer": "attention(rotary=True)"}, "is not counted; saccade.models.macs counts any forward"),
        ({"layout": ("c1", ("c1", ("D1",), "c1"), "c1")}, "has stages inside others"),
    ],
)
def test_bad_input(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        flops(replace(TINY, **changes), 40)
