"""Regions of image tokens: against plain loops, and as laws."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.mechanisms.token_regions import erode, kernel, largest, move, region, smooth, spread_points, stretched

seeds = st.integers(0, 10**6)
sides = st.integers(2, 9)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def parts(mask: Tensor) -> list[set[tuple[int, int]]]:
    """Connected parts by walking from token to token, corners included, largest first."""
    left, found = {(y, x) for y, x in mask.nonzero().tolist()}, []
    while left:
        part, edge = set(), [left.pop()]
        while edge:
            y, x = edge.pop()
            part.add((y, x))
            near = {(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)} & left
            left -= near
            edge += near
        found.append(part)
    return sorted(found, key=len, reverse=True)


def test_the_kernel_is_a_gaussian_of_sigma_times_root_two() -> None:
    line = torch.exp(-(torch.tensor([-1.0, 0.0, 1.0]) ** 2) / (2 * (0.5 * 2**0.5) ** 2))
    torch.testing.assert_close(kernel(3, 0.5), line[:, None] * line / line.sum() ** 2)
    assert torch.equal(kernel(1), torch.ones(1, 1)) and kernel(7, 2.0).sum() == pytest.approx(1)


@given(seed=seeds, h=sides, w=sides)
def test_smoothing_is_the_weighted_mean_of_mirrored_neighbours(seed: int, h: int, w: int) -> None:
    heat, weights = drawn(seed, h, w), kernel()
    padded = torch.from_numpy(np.pad(heat.numpy(), 1, mode="reflect"))
    expected = sum(weights[a, b] * padded[a : a + h, b : b + w] for a in range(3) for b in range(3))
    torch.testing.assert_close(smooth(heat), expected, atol=1e-6, rtol=0)
    assert torch.equal(smooth(heat, side=1), heat)


@given(seed=seeds, h=sides, w=sides, components=st.integers(1, 3))
def test_the_largest_parts_are_kept_whole(seed: int, h: int, w: int, components: int) -> None:
    mask = drawn(seed, h, w) > 0.6
    found, known = parts(largest(mask, components)), parts(mask)
    assert [len(part) for part in found] == [len(part) for part in known[:components]]
    assert all(part in known for part in found)


@given(seed=seeds, threshold=st.floats(0, 0.9))
def test_a_region_is_one_part_that_holds_the_peak_or_is_larger(seed: int, threshold: float) -> None:
    heat = drawn(seed, 2, 6, 9)
    found = region(heat, threshold=threshold)
    hot = stretched(smooth(heat)) > threshold
    assert (found <= hot).all() and all(len(parts(one)) == 1 for one in found)


@given(seed=seeds, times=st.integers(1, 3))
def test_what_is_eroded_is_no_nearer_to_the_outside_than_so_many_tokens(seed: int, times: int) -> None:
    mask = drawn(seed, 7, 8) > 0.15
    out = (~mask).nonzero()
    for y in range(7):
        for x in range(8):
            far = not len(out) or int((out - torch.tensor([y, x])).abs().amax(1).min()) > times
            assert bool(erode(mask, times)[y, x]) == far


@given(seed=seeds)
def test_points_lie_in_the_region_far_apart_and_are_the_same_for_a_seed(seed: int) -> None:
    mask = drawn(seed, 8, 8) > 0.5
    points = spread_points(mask, 4, seed)
    assert mask[points[:, 0], points[:, 1]].all() and len({tuple(p) for p in points.tolist()}) == 4
    assert torch.equal(points, spread_points(mask, 4, seed))
    places, found = mask.nonzero().float(), points.float()
    for i in range(1, 4):
        farthest = torch.cdist(places, found[:i]).amin(1).max()
        assert torch.cdist(found[i : i + 1], found[:i]).min() == pytest.approx(float(farthest))


@given(seed=seeds, down=st.integers(-2, 2), across=st.integers(-2, 2), frames=st.booleans())
def test_a_moved_region_takes_each_token_from_where_it_was(seed: int, down: int, across: int, frames: bool) -> None:
    mask = torch.zeros(3, 7, 8, dtype=torch.bool) if frames else torch.zeros(7, 8, dtype=torch.bool)
    mask[..., 2:5, 2:6] = drawn(seed, 3, 4) > 0.4
    found, content = move(mask, (down, across)), torch.arange(mask.numel()).reshape(mask.shape)
    expected = torch.roll(mask, (down, across), (-2, -1))
    assert torch.equal(found.target, expected) and torch.equal(found.source, mask)
    theirs = content.flatten()[found.taken].reshape(mask.shape)
    assert torch.equal(theirs[expected], torch.roll(content, (down, across), (-2, -1))[expected])
    assert torch.equal(theirs[~expected], content[~expected])
    assert torch.equal(found.vacated, mask & ~expected) and torch.equal(found.rest, ~(mask | expected))


def test_a_move_by_nothing_is_nothing() -> None:
    mask = drawn(0, 4, 4) > 0.5
    found = move(mask, (0, 0))
    assert torch.equal(found.target, mask) and torch.equal(found.taken, torch.arange(16)) and not found.vacated.any()


def test_what_cannot_be_is_named() -> None:
    corner = torch.zeros(4, 6, dtype=torch.bool)
    corner[0, 5] = True
    for message, call in {
        r"by=\(0, 1\) \(rows, columns\) moves a region out of its grid of 4 x 6": lambda: move(corner, (0, 1)),
        "by=\\(-1, 0\\)": lambda: move(corner, (-1, 0)),
        "side=4 of a kernel must be odd": lambda: smooth(drawn(0, 8, 8), side=4),
        "sigma=0 must be positive": lambda: kernel(3, 0),
        r"side=9 of a kernel is too wide for a map of \(4, 6\)": lambda: smooth(drawn(0, 4, 6), side=9),
        "threshold=1.0 must be in": lambda: region(drawn(0, 4, 4), threshold=1.0),
        "threshold=0.3 leaves no token of a map": lambda: region(torch.zeros(4, 4)),
        "components=0 must be at least 1": lambda: largest(corner, 0),
        "count=4 points are asked of a region of 1": lambda: spread_points(corner),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
