"""Blobs: ellipses on grids of any size, from boxes and masks, moved, and layouts that differ in one of them."""

from math import pi

import numpy as np
import pytest
import torch

from saccade.papers.diffuhaul import Blob
from saccade.papers.diffuhaul.blobs import check_layouts, freed, way

ONE = Blob(x=0.4, y=0.45, a=0.3, b=0.15, angle=0.7, name="red circle")


@pytest.mark.parametrize("grid", [(64, 64), (96, 48)])
def test_an_ellipse_covers_its_area_on_any_grid(grid: tuple[int, int]) -> None:
    assert ONE.on(grid).float().mean().item() == pytest.approx(pi * 0.3 * 0.15, rel=0.02)


@pytest.mark.parametrize("by", [(3, 0), (-2, 5), (1, 1)])
def test_whole_tokens_move_the_mask_exactly(by: tuple[int, int]) -> None:
    grid = (20, 30)
    moved = ONE.moved((ONE.x + by[1] / grid[1], ONE.y + by[0] / grid[0]))
    assert way(ONE, moved, grid) == by
    there = torch.roll(ONE.on(grid), by, (0, 1))
    assert torch.equal(moved.on(grid)[6:-6, 6:-6], there[6:-6, 6:-6])


def test_a_half_turn_is_the_same_mask_and_a_quarter_swaps_the_axes() -> None:
    assert torch.equal(Blob(x=0.4, y=0.45, a=0.3, b=0.15, angle=0.7 + pi).on((33, 33)), ONE.on((33, 33)))
    upright = Blob(x=0.5, y=0.5, a=0.1, b=0.3).on((32, 32))
    assert torch.equal(Blob(x=0.5, y=0.5, a=0.3, b=0.1, angle=pi / 2).on((32, 32)), upright)


def test_a_mask_gives_back_the_ellipse_it_was_made_of() -> None:
    found = Blob.of_mask(ONE.on((300, 200)).numpy(), "red circle")
    for name in ("x", "y", "a", "b", "angle"):
        assert getattr(found, name) == pytest.approx(getattr(ONE, name), abs=0.01)
    assert found.name == "red circle"
    with pytest.raises(ValueError, match="the mask of the object is empty"):
        Blob.of_mask(np.zeros((4, 4), bool))


def test_a_box_gives_the_ellipse_within_or_itself() -> None:
    inner, whole = (Blob.of_box((0.25, 0.5, 0.75, 1.0), shape=shape) for shape in ("ellipse", "box"))
    assert inner.box == whole.box == (0.25, 0.5, 0.75, 1.0)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[4:, 2:6] = True
    assert torch.equal(whole.on((8, 8)), mask)
    assert (inner.on((8, 8)) & ~mask).sum() == 0 and inner.on((8, 8)).sum() < mask.sum()


def test_each_grid_is_rasterised_by_itself() -> None:
    small = Blob(x=0.3, y=0.3, a=0.05, b=0.05)
    assert not small.on((2, 2)).any() and small.on((64, 64)).any()


def test_the_free_place_is_the_old_and_the_new_one_dilated() -> None:
    source, target = Blob(x=0.2, y=0.2, a=0.1, b=0.1), Blob(x=0.8, y=0.8, a=0.1, b=0.1)
    both = source.on((20, 20)) | target.on((20, 20))
    assert torch.equal(freed(source, target, (20, 20), 0) > 0, both)
    wide = freed(source, target, (20, 20), 2) > 0
    assert (both & ~wide).sum() == 0 and wide[4, 7] and not wide[4, 8]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": 0.0}, "axes a=0.0 and b=0.15 of blob 'red circle' must be positive"),
        ({"b": float("nan")}, "must be positive"),
        ({"x": 1.2}, r"centre \(1.2, 0.45\) of blob 'red circle' lies outside the picture"),
        ({"shape": "star"}, "shape='star' is unknown; choose one of ellipse, box"),
    ],
)
def test_no_blob_is_made_of_nonsense(given: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Blob(**{"x": 0.4, "y": 0.45, "a": 0.3, "b": 0.15, "name": "red circle", **given})  # type: ignore[arg-type]


@pytest.mark.bad_input
def test_layouts_differ_in_the_dragged_object_alone() -> None:
    other = Blob(x=0.8, y=0.8, a=0.1, b=0.1, name="blue square")
    check_layouts((ONE, other), (ONE.moved((0.5, 0.5)), other), 0)
    for source, target, drag, message in (
        ((), (), 0, r"source=\(\) has no object"),
        ((ONE, other), (ONE,), 0, "source has 2 objects and target 1"),
        ((ONE, other), (other, ONE), 0, "object 0 is 'red circle' in source and 'blue square' in target"),
        ((ONE, other), (ONE, other.moved((0.1, 0.1))), 0, "object 1 of target is not where it is in source"),
        ((ONE,), (ONE,), 1, "drag=1 is none of the 1 objects"),
    ):
        with pytest.raises(ValueError, match=message):
            check_layouts(source, target, drag)
    with pytest.raises(ValueError, match="dilation=-1 must be at least 0"):
        freed(ONE, ONE, (8, 8), -1)
