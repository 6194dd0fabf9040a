"""Masks: at most one class a token, assigned to words, and newer ones only if they are like the old ones."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from saccade.papers.attencraft import MaskRefresher, assign, make_masks
from saccade.papers.attencraft.masks import first_masks, mask_ssim
from tests.papers.attencraft import plain


def random_maps(seed: int = 0, k: int = 3, side: int = 8) -> torch.Tensor:
    return torch.rand(k, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@given(seed=st.integers(0, 99), theta=st.floats(0, 1.2), k=st.integers(2, 4))
def test_masks_are_those_of_the_plain_reference_and_disjoint(seed: int, theta: float, k: int) -> None:
    maps = random_maps(seed, k, 4)
    found = make_masks(maps, theta)
    assert torch.equal(found, plain.masks(maps, theta))
    assert (found.sum(0) <= 1).all()


@given(seed=st.integers(0, 99), low=st.floats(0, 1), more=st.floats(0, 1))
def test_masks_shrink_as_theta_grows(seed: int, low: float, more: float) -> None:
    maps = random_maps(seed)
    assert (make_masks(maps, low + more) <= make_masks(maps, low)).all()


def test_theta_0_leaves_ties_alone_and_theta_above_1_leaves_everything() -> None:
    maps = random_maps()
    maps[:, 0, 0] = 0.5
    found = make_masks(maps, 0.0)
    assert (found.any(0) == (torch.arange(64).reshape(8, 8) > 0)).all()
    assert not make_masks(maps, 1.0001).any()


def test_permuting_maps_permutes_masks() -> None:
    maps = random_maps()
    assert torch.equal(make_masks(maps[[2, 0, 1]]), make_masks(maps)[[2, 0, 1]])


def test_each_mask_is_assigned_the_word_of_its_map() -> None:
    maps = random_maps()
    assert assign(maps, make_masks(maps)) == (0, 1, 2)
    assert torch.equal(first_masks(maps), make_masks(maps))


@pytest.mark.bad_input
def test_two_masks_of_one_word_are_an_error_with_the_table_of_scores() -> None:
    maps = random_maps()
    maps[0] += 5
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[0, 0], masks[1, 1], masks[2, 2] = True, True, True
    with pytest.raises(ValueError, match="two masks are assigned one word; change theta or the timestep") as error:
        assign(maps, masks, ("cat", "dog", "background"))
    lines = str(error.value).splitlines()
    assert len(lines) == 4 and lines[2].startswith("  mask dog: cat 4") and "background 0.00" not in lines[2]


def test_ssim_is_scikit_images_with_windows_of_7_and_range_1() -> None:
    one, other = (random_maps(seed, 1, 32)[0] > 0.5 for seed in (0, 1))
    expected: Any = structural_similarity(one.double().numpy(), other.double().numpy(), win_size=7, data_range=1)
    assert mask_ssim(one, other) == pytest.approx(float(expected), abs=1e-12)
    assert mask_ssim(one, one) == 1


def blobs(shift: int = 0) -> torch.Tensor:
    """Maps of two squares and the rest."""
    maps = torch.zeros(3, 16, 16)
    maps[0, 2 + shift : 6 + shift, 2:6], maps[1, 9:14, 9:14] = 1, 1
    maps[2] = 1 - maps[0] - maps[1]
    return maps


def test_new_masks_are_taken_on_schedule_if_they_are_like_the_old_ones() -> None:
    refresher, old, changed = MaskRefresher(every=20), make_masks(blobs()), blobs()
    changed[0, 2, 2], changed[2, 2, 2] = 0, 1
    new = make_masks(changed)
    assert min(mask_ssim(a, b) for a, b in zip(old[:2], new[:2], strict=True)) > 0.8
    assert torch.equal(refresher.refresh(40, old, changed), new)
    assert torch.equal(refresher.refresh(41, old, changed), old)


def test_masks_that_moved_or_belong_to_one_word_are_not_taken() -> None:
    refresher, old = MaskRefresher(), make_masks(blobs())
    assert mask_ssim(make_masks(blobs(5))[0], old[0]) < 0.8
    assert torch.equal(refresher.refresh(20, old, blobs(5)), old)
    assert not refresher.accepts(20, old, old, (0, 0, 2))
    assert refresher.accepts(20, old, old, (0, 1, 2)) and not refresher.accepts(19, old, old, (0, 1, 2))


@given(step=st.integers(0, 200), every=st.integers(1, 50), least=st.floats(-1, 1), shift=st.integers(0, 9))
def test_nothing_is_ever_taken_off_schedule_or_below_the_gate(step: int, every: int, least: float, shift: int) -> None:
    refresher, old, new = MaskRefresher(every=every, ssim=least), make_masks(blobs()), make_masks(blobs(shift))
    if refresher.accepts(step, old, new, (0, 1, 2)):
        assert step % every == 0 and mask_ssim(new[0], old[0]) >= least


@pytest.mark.bad_input
def test_options_out_of_range_are_errors() -> None:
    with pytest.raises(ValueError, match="theta=-0.1 must be 0 or more"):
        make_masks(random_maps(), -0.1)
    with pytest.raises(ValueError, match="1 map has nothing to differ from"):
        make_masks(random_maps(k=1))
    with pytest.raises(ValueError, match="every=0 must be at least 1 step"):
        MaskRefresher(every=0)
    with pytest.raises(ValueError, match=r"ssim=2 must be in \[-1, 1\]"):
        MaskRefresher(ssim=2)
