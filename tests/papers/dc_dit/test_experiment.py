"""DC-DiT's experiment: where tokens count as kept, what random tokens are, and verdicts by standard errors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from saccade.data.labelled import open_scenes
from saccade.experiments import Figures, Results
from saccade.nn.routing import Routing
from saccade.papers.dc_dit.measures import (
    TIMES,
    HeldOut,
    cells,
    edge_rates,
    flatter,
    kept_where,
    random_tokens,
    shuffled,
    unpacked,
)
from saccade.papers.dc_dit.model import DCDiT
from saccade.papers.dc_dit.sections import EXPECTED, caution, costs

SIDE = 16


@pytest.fixture(scope="module")
def held() -> HeldOut:
    return HeldOut(open_scenes(SIDE, count=8, held=8), 6)


@pytest.fixture(scope="module")
def model() -> DCDiT:
    torch.manual_seed(0)
    layout = ("c1", ("D1",), "c1")
    made = DCDiT(
        layout=layout,
        width=32,
        heads=2,
        narrow=32,
        side=SIDE,
        channels=3,
        classes=28,
        learned_variance=False,
        ratio_group=None,
    )
    return made.eval()


def _routing(rows: int = 3, n: int = 12) -> Routing:
    probs = torch.rand(rows, n, 2, generator=torch.Generator().manual_seed(0))
    index = probs.argmax(-1, keepdim=True)
    index[:, [0, -1]] = 1
    return Routing(index, probs.gather(-1, index), probs)


def test_random_tokens_are_as_many_and_both_ends_stay() -> None:
    routing = _routing()
    found = shuffled(routing, torch.Generator().manual_seed(1))
    assert torch.equal(found.index.sum(1), routing.index.sum(1)) and not torch.equal(found.index, routing.index)
    for before, after in zip(routing, found, strict=True):
        assert torch.equal(before[:, [0, -1]], after[:, [0, -1]])
        assert torch.equal(before.sort(1).values, after.sort(1).values)


def test_a_router_is_itself_again_afterwards() -> None:
    router, routing = nn.Identity(), _routing()
    with random_tokens(router):
        assert not torch.equal(router(routing).index, routing.index)
    assert router(routing) is routing


def test_losses_are_those_of_each_picture(held: HeldOut, model: DCDiT) -> None:
    found = held.losses(model, rho=0.5)
    assert found.shape == (6,) and found.mean() == pytest.approx(1, abs=0.6)  # a fresh model predicts no noise
    torch.testing.assert_close(found, held.noise.square().flatten(1).mean(1))


def test_cells_come_back_from_their_text(held: HeldOut, model: DCDiT) -> None:
    kept = held.kept(model, 2)
    assert kept.shape == (len(TIMES), 2, SIDE, SIDE) and kept[:, :, 0, 0].all()
    rows = list(cells(kept))
    assert [(row["time"], row["picture"]) for row in rows] == [(t, i) for t in TIMES[::3] for i in (0, 1)]
    for row in rows:
        assert np.array_equal(unpacked(row["kept"], SIDE), kept[TIMES.index(row["time"]), row["picture"]])


def test_edges_and_background_are_told_apart() -> None:
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[:, 2:6, 2:6] = True
    edge = torch.ones(1, 8, 8, dtype=torch.bool)
    edge[:, 3:5, 3:5] = edge[:, 0] = edge[:, -1] = edge[:, :, 0] = edge[:, :, -1] = False
    at_edge, at_flat = edge_rates(torch.stack((edge, ~edge)), masks)
    assert at_edge.tolist() == [[1], [0]] and at_flat.tolist() == [[0], [1]]


def test_tokens_at_edges_are_counted_by_pixel() -> None:
    masks = np.zeros((1, 12, 12), bool)
    masks[:, 4:8, 4:8] = True
    keep = torch.zeros(1, 12, 12, dtype=torch.bool)
    keep[:, 4, 4:8] = keep[:, 0, 0] = True  # on the upper edge, and in a corner of the background
    found = kept_where(keep.flatten(1), masks)
    assert found["tokens"] == 144 and found["kept"] == 5
    assert found["edge"] == pytest.approx(4 / 28) and found["flat"] == pytest.approx(1 / 92)


def test_a_loss_that_rises_less_is_flatter() -> None:
    plain, many = ([torch.full((3,), slope * step) for step in range(10)] for slope in (2.0, 1.5))
    assert flatter(plain, many).tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("value", "error", "verdict"),
    [(4.0, 0.4, "confirmed"), (3.2, 0.2, "undecided"), (5.5, 0.2, "refuted"), (2.0, 0.4, "refuted")],
)
def test_a_value_lies_between_bounds_by_two_standard_errors(value: float, error: float, verdict: str) -> None:
    rows: list[dict[str, Any]] = [{"name": "compression", "value": value, "value_error": error}]
    results = Results(device="", date="", versions={}, settings={"noise": {"pictures": 4}}, tables={"overall": rows})
    (claim,) = (each.claim for each in EXPECTED if each.name == "compression")
    assert claim.verdict(results) == verdict and claim.text == "pixels for each kept token: 3 to 5"


def test_a_loss_that_hardly_needs_tokens_is_a_caution() -> None:
    assert "cannot judge" in caution(1.0, 1.04, 0.9)
    assert caution(1.0, 1.06, 0.9) == "Without 90% of the kept tokens the loss is 6.0 % higher."


def test_published_costs_need_no_run() -> None:
    table = costs(Results(device="", date="", versions={}), Figures(folder=Path(), name="dc_dit"))
    assert "| S | 12.13 | 15.12 | 15.42 | 7.86 |" in table
