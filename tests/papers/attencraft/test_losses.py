"""The losses against plain ones, and their laws."""

from math import e, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.papers.attencraft import attn_jsd_loss, reconstruction_loss
from saccade.papers.attencraft.losses import jsd, spatial_weight, validity
from tests.papers.attencraft import plain


@given(seed=st.integers(0, 99))
def test_the_divergence_is_symmetric_bounded_and_zero_for_equals(seed: int) -> None:
    p, q = 20 * torch.randn(2, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    a, b = p.softmax(-1), q.softmax(-1)
    assert jsd(a, b) == pytest.approx(float(jsd(b, a)), abs=1e-15)
    assert 0 < jsd(a, b) <= log(2) + 1e-12 and abs(jsd(a, a)) < 1e-14
    assert jsd(a, b) == pytest.approx(plain.divergence(p, q), abs=1e-10)


def test_apart_is_ln_2() -> None:
    a, b = torch.eye(2, dtype=torch.float64)
    assert jsd(a, b) == pytest.approx(log(2), abs=1e-12)


def test_a_half_mask_against_its_complement_is_the_most_there_is() -> None:
    mask = (torch.arange(1024) % 2 == 0).reshape(1, 32, 32)
    found = attn_jsd_loss((~mask).double(), mask)
    share = e / (1 + e)
    assert found == pytest.approx(log(2) + share * log(share) + (1 - share) * log(1 - share), abs=1e-9)
    assert found == pytest.approx(0.1109, abs=1e-4)
    assert abs(attn_jsd_loss(mask.double(), mask)) < 1e-12


def test_the_loss_is_the_mean_over_rows_and_classes() -> None:
    torch.manual_seed(0)
    c, masks = torch.rand(2, 3, 4, 4, dtype=torch.float64), torch.rand(3, 4, 4) > 0.5
    expected = [plain.divergence(c[b, k], masks[k].double()) for b in range(2) for k in range(3)]
    assert attn_jsd_loss(c, masks) == pytest.approx(sum(expected) / 6, abs=1e-12)


def test_reconstruction_is_the_released_sum_and_4_times_a_mean() -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 1, 4, 6, 5)
    weight, valid = torch.rand(6, 5), validity((6, 5))
    found = reconstruction_loss(predicted, target, weight, valid)
    assert found == pytest.approx(plain.reconstruction(predicted[0], target[0], weight, valid), rel=1e-5)
    ones = reconstruction_loss(predicted, target, torch.ones(6, 5), valid)
    assert ones == pytest.approx(4 * float((predicted - target)[..., 1:-1, 1:-1].square().mean()), rel=1e-5)
    half = reconstruction_loss(predicted, target, weight, valid, official_broadcast=True)
    assert half == pytest.approx(float(found + ones) / 2, rel=1e-5)
    assert reconstruction_loss(predicted, target, weight, valid, instance_weight=1) == pytest.approx(float(found) / 4)


def test_rows_are_averaged() -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 3, 4, 6, 6)
    weight, valid = torch.rand(6, 6), validity((6, 6), 0)
    rows = [reconstruction_loss(predicted[i : i + 1], target[i : i + 1], weight, valid) for i in range(3)]
    assert reconstruction_loss(predicted, target, weight, valid) == pytest.approx(float(sum(rows)) / 3, rel=1e-5)


def test_the_weight_is_clamped_unless_as_released() -> None:
    masks = torch.zeros(2, 32, 32, dtype=torch.bool)
    masks[0, 8:20, 8:20], masks[1, 22:30, 2:9] = True, True
    assert (spatial_weight(masks, (64, 64)).min(), spatial_weight(masks, (64, 64)).max()) == (0, 1)
    released = spatial_weight(masks, (64, 64), compat="official")
    assert released.max() > 1 and released.min() < 0
    assert torch.equal(spatial_weight(masks, (32, 32)), masks.any(0).float())


def test_the_ring_is_all_that_is_not_valid() -> None:
    assert validity((64, 64)).sum() == 62 * 62 and validity((8, 6), 0).all() and not validity((8, 6))[0].any()


@pytest.mark.bad_input
def test_what_cannot_be_is_an_error() -> None:
    with pytest.raises(ValueError, match="ring=3 must be 0 or more and leave something of 6 x 6 latents"):
        validity((6, 6), 3)
    x = torch.zeros(1, 4, 6, 6)
    with pytest.raises(ValueError, match="valid is zero everywhere"):
        reconstruction_loss(x, x, torch.ones(6, 6), torch.zeros(6, 6))
    with pytest.raises(ValueError, match="compat='offical' must be 'official', or None"):
        spatial_weight(torch.ones(1, 4, 4).bool(), (4, 4), compat="offical")  # type: ignore[arg-type]
