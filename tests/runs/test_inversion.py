"""Inversion against its laws: exact where the field is constant, one order better than Euler where it is not."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.runs import Velocity, invert_euler, invert_uni, inverted_path, sample_euler

INVERSIONS = (invert_euler, invert_uni)
Inversion = Callable[[Velocity, Tensor, tuple[float, ...]], Tensor]

grids = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=12, unique=True).map(
    lambda levels: tuple(sorted(levels, reverse=True))
)


def clean(seed: int = 0, shape: tuple[int, ...] = (2, 3, 5)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def even(steps: int) -> tuple[float, ...]:
    return tuple(1 - i / steps for i in range(steps)) + (0.0,)


@pytest.mark.parametrize("invert", INVERSIONS)
@given(sigmas=grids, seed=st.integers(0, 99))
def test_a_constant_field_is_inverted_exactly(invert: Inversion, sigmas: tuple[float, ...], seed: int) -> None:
    z, v = clean(seed), clean(seed + 100)
    there = invert(lambda x, sigma: v, z, sigmas)
    assert torch.allclose(there, z + (sigmas[0] - sigmas[-1]) * v, rtol=0, atol=1e-13)
    assert torch.allclose(sample_euler(lambda x, sigma: v, there, sigmas), z, rtol=0, atol=1e-13)


def error(invert: Inversion, field: Velocity, steps: int) -> float:
    z, sigmas = clean(), even(steps)
    return float((sample_euler(field, invert(field, z, sigmas), sigmas) - z).abs().max())


@pytest.mark.parametrize("field", [lambda z, sigma: 0.8 * z, lambda z, sigma: (0.3 - sigma) * z + sigma])
@pytest.mark.parametrize(("invert", "order"), [(invert_euler, 1), (invert_uni, 2)])
def test_uni_inversion_is_one_order_more_exact_on_a_linear_field(
    field: Velocity, invert: Inversion, order: int
) -> None:
    steps = np.array((32, 64, 128, 256))
    errors = [error(invert, field, int(n)) for n in steps]
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(-order, abs=0.1)


def test_uni_inversion_equals_the_formula_written_out() -> None:
    def field(z: Tensor, sigma: float) -> Tensor:
        return torch.sin(3 * z + sigma)

    levels = (0.0, 0.1, 0.35, 0.6, 1.0)
    z0 = clean()
    v = field(z0, levels[0])
    z, y = z0, z0 + (levels[1] - levels[0]) * v
    for k in range(1, 5):
        v = field(y, levels[k])
        z = z + (levels[k] - levels[k - 1]) * v
        y = z + (levels[k + 1] - levels[k]) * v if k < 4 else y
    assert torch.equal(invert_uni(field, z0, levels[::-1]), z)


@pytest.mark.parametrize(("run", "calls"), [(sample_euler, "falling"), (invert_euler, "rising"), (invert_uni, "all")])
def test_calls_and_their_levels(run: Inversion, calls: str) -> None:
    seen: list[float] = []

    def field(z: Tensor, sigma: float) -> Tensor:
        seen.append(sigma)
        return z

    sigmas = (0.9, 0.5, 0.2, 0.0)
    run(field, clean(), sigmas)
    wanted = {"falling": sigmas[:-1], "rising": sigmas[:0:-1], "all": sigmas[::-1]}
    assert tuple(seen) == wanted[calls]


@pytest.mark.parametrize("run", (sample_euler, *INVERSIONS))
def test_nothing_is_changed_in_place(run: Inversion) -> None:
    z = clean()
    run(lambda x, sigma: x, z, even(3))
    assert torch.equal(z, clean())


@pytest.mark.parametrize("run", (sample_euler, *INVERSIONS))
@pytest.mark.parametrize(
    ("sigmas", "message"),
    [
        ((), r"sigmas=\(\) has 0 levels; give at least two"),
        ((1.0,), r"sigmas=\(1.0,\) has 1 levels"),
        ((0.0, 1.0), r"sigmas=\(0, 1\) must fall strictly"),
        ((1.0, 0.5, 0.5, 0.0), "must fall strictly"),
        ((1.0, -0.1), "end at zero or above"),
        ((math.nan, 0.0), "must fall strictly"),
    ],
)
def test_bad_levels_are_named(run: Inversion, sigmas: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(lambda x, sigma: x, clean(), sigmas)


@given(sigmas=grids, seed=st.integers(0, 99))
def test_a_path_holds_the_latent_of_every_level_by_the_rule_of_the_released_code(
    sigmas: tuple[float, ...], seed: int
) -> None:
    def field(z: Tensor, sigma: float) -> Tensor:
        return 0.3 * z + sigma

    z, path = clean(seed), inverted_path(field, clean(seed), sigmas)
    expected = [z]
    for i in range(len(sigmas) - 1, 0, -1):
        expected.append(expected[-1] + (sigmas[i - 1] - sigmas[i]) * field(expected[-1], sigmas[i - 1]))
    assert len(path) == len(sigmas) and torch.equal(path[-1], z)
    assert all(torch.equal(a, b) for a, b in zip(path[::-1], expected, strict=True))


def test_a_row_can_be_held_on_its_path_while_others_are_sampled() -> None:
    levels, calls = even(5), []

    def field(z: Tensor, sigma: float) -> Tensor:
        return (0.3 - sigma) * z

    path = inverted_path(field, clean()[:1], levels)

    def held(z: Tensor, reached: int) -> Tensor:
        calls.append(reached)
        return torch.cat((path[reached], z[1:]))

    start = path[0].expand(2, -1, -1)
    found = sample_euler(field, start, levels, after=held)
    assert calls == [1, 2, 3, 4, 5] and torch.equal(found[:1], path[-1])
    assert torch.equal(found[1:], sample_euler(field, path[0], levels)) and not torch.equal(found[0], found[1])
