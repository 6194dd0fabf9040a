"""Codes whose cosines are a Gaussian of the distance: exact, between whole numbers, and by descent."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from saccade.nn import distance_code, distance_table, optimised_table
from saccade.nn.aligned_positions import between, table_loss

RELEASED = (1, 0.883, 0.607, 0.325, 0.135, 0.044, 0.011, 0.003)  # cosines of the released tables with their first row


def wanted(places: torch.Tensor, sigma: float) -> torch.Tensor:
    return (-(places[:, None] - places).square() / (2 * sigma**2)).exp()


@pytest.mark.parametrize("rotation", [None, 0, 3])
@pytest.mark.parametrize(("count", "sigma"), [(14, 2.0), (11, 1.5), (11, 2.5), (1, 2.0), (30, 1.0), (30, 80.0)])
def test_cosines_are_exact_and_all_codes_equally_long(count: int, sigma: float, rotation: int | None) -> None:
    table = distance_table(count, 86, sigma=sigma, norm=8.764, rotation=rotation)
    unit = normalize(table.double(), dim=-1)
    torch.testing.assert_close(unit @ unit.mT, wanted(torch.arange(count).double(), sigma), atol=1e-6, rtol=0)
    torch.testing.assert_close(table.norm(dim=-1), torch.full((count,), 8.764), atol=1e-4, rtol=0)


def test_the_released_cosines() -> None:
    unit = normalize(distance_table(14, 86), dim=-1)
    torch.testing.assert_close(unit[0] @ unit[:8].mT, torch.tensor(RELEASED), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rotation", [None, 1])
def test_codes_between_whole_numbers_go_on_between_them(rotation: int | None) -> None:
    places = torch.linspace(0, 9, 37)
    codes = distance_code(places, 10, 32, rotation=rotation)
    torch.testing.assert_close(codes[::4], distance_table(10, 32, rotation=rotation), atol=1e-4, rtol=0)
    unit = normalize(codes.double(), dim=-1)
    torch.testing.assert_close(unit @ unit.mT, wanted(places.double(), 2.0), atol=2e-3, rtol=0)
    torch.testing.assert_close(between(places[::4], 10), torch.eye(10).double(), atol=1e-6, rtol=0)


def test_descent_lowers_the_loss_towards_the_closed_form() -> None:
    found = optimised_table(5, 16, steps=600, lr=0.02)
    unit = normalize(found, dim=-1)
    torch.testing.assert_close(unit @ unit.mT, wanted(torch.arange(5.0), 2.0), atol=0.02, rtol=0)
    assert table_loss(found) < 1e-3 < table_loss(optimised_table(5, 16, steps=0))
    assert table_loss(distance_table(5, 16)) < 1e-9
    assert torch.equal(optimised_table(5, 16, steps=3), optimised_table(5, 16, steps=3))


def test_the_loss_is_the_paper_s() -> None:
    table = torch.randn(4, 6, dtype=torch.float64)
    total = torch.tensor(0.0, dtype=torch.float64)
    lengths = [row.norm() for row in table]
    for i in range(4):
        for j in range(4):
            target = 2.718281828459045 ** (-((i - j) ** 2) / 8)
            total += (table[i] @ table[j] / (lengths[i] * lengths[j]) - target) ** 2
    mean = sum(lengths) / 4
    total += sum((each - mean) ** 2 for each in lengths) / 4
    torch.testing.assert_close(table_loss(table), total / 12)


BAD: dict[str, Callable[[], Any]] = {
    "count=15 places must be at least 1 and no more than width=8": lambda: distance_table(15, 8),
    "count=0 places": lambda: distance_table(0, 8),
    "sigma=0 must be a finite number above 0": lambda: distance_table(3, 8, sigma=0),
    r"places from -0.5 to 2.0 must lie in 0 to 3": lambda: distance_code(torch.tensor([-0.5, 2.0]), 4, 8),
    "count=1 must be at least 2": lambda: optimised_table(1, 8),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BAD[message]()
