"""Windows: exact there and back, shifted masks, what does not divide."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.papers.pt_dit.windows import halves, merge, partition, shift_mask

sizes = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), min_size=2, max_size=3)


def _sides(drawn: list[tuple[int, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple(count * side for count, side in drawn), tuple(side for _, side in drawn)


@given(drawn=sizes, shift=st.booleans())
@settings(deadline=None, max_examples=40)
def test_partition_and_merge_are_inverse(drawn: list[tuple[int, int]], shift: bool) -> None:
    grid, window = _sides(drawn)
    x = torch.randn(2, torch.Size(grid).numel(), 3)
    assert torch.equal(merge(partition(x, grid, window, shift=shift), grid, window, shift=shift), x)


@given(drawn=sizes, shift=st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_window_holds_its_neighbours_row_major(drawn: list[tuple[int, int]], shift: bool) -> None:
    grid, window = _sides(drawn)
    numbers = torch.arange(torch.Size(grid).numel())
    places = numbers.view(grid)
    steps = halves(window) if shift else (0,) * len(grid)
    wanted = [
        [
            int(
                places[
                    tuple((w * p + i + s) % g for w, p, i, s, g in zip(at, window, inside, steps, grid, strict=True))
                ]
            )
            for inside in product(*map(range, window))
        ]
        for at in product(*(range(g // p) for g, p in zip(grid, window, strict=True)))
    ]
    assert partition(numbers[None, :, None], grid, window, shift=shift)[0, ..., 0].tolist() == wanted


@pytest.mark.parametrize(
    ("grid", "window", "masked"),
    [
        ((1, 8, 8), (1, 4, 4), [0, 0.5, 0.5, 0.75]),
        ((8, 8), (4, 4), [0, 0.5, 0.5, 0.75]),
        ((4, 8, 8), (4, 4, 4), [0.5, 0.75, 0.75, 0.875]),
        ((6, 6), (6, 6), [0.75]),
        ((3, 2), (1, 1), [0] * 6),
    ],
)
def test_shares_that_are_masked(grid: tuple[int, ...], window: tuple[int, ...], masked: list[float]) -> None:
    assert (~shift_mask(grid, window)).float().mean((1, 2)).tolist() == masked


@given(drawn=st.lists(st.tuples(st.integers(2, 3), st.integers(1, 4)), min_size=2, max_size=3))
@settings(deadline=None, max_examples=40)
def test_who_meets_is_near_on_every_axis(drawn: list[tuple[int, int]]) -> None:
    grid, window = _sides(drawn)
    places = torch.cartesian_prod(*map(torch.arange, grid))
    seen = partition(places[None], grid, window, shift=True)[0]
    near = ((seen[:, :, None] - seen[:, None]).abs() < torch.tensor(window)).all(-1)
    assert torch.equal(shift_mask(grid, window), near)


@pytest.mark.parametrize(
    ("grid", "window", "message"),
    [
        ((6, 8), (4, 4), r"height of 6 tokens does not divide into 4s: grid=\(6, 8\), window=\(4, 4\)"),
        ((8, 6), (4, 4), "width of 6 tokens does not divide into 4s"),
        ((3, 8, 8), (2, 4, 4), "frames of 3 tokens does not divide into 2s"),
        ((8, 8), (0, 4), "height of 8 tokens does not divide into 0s"),
        ((1, 8, 8), (4, 4), r"window=\(4, 4\) must have a side for each of the 3 of grid=\(1, 8, 8\)"),
    ],
)
def test_what_does_not_divide(grid: tuple[int, ...], window: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        partition(torch.zeros(1, torch.Size(grid).numel(), 1), grid, window)
