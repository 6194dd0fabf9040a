"""The losses: their values at the ends, their laws, and agreement with a plain float64 rewrite, gradients too."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.papers.dreamrelation import contrastive_loss, masked_reconstruction
from saccade.papers.dreamrelation.losses import appearance, dynamics, unit

SEEDS = st.integers(0, 2**16)


def pair(seed: int, shape: tuple[int, ...] = (2, 3, 4, 5, 6)) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=made), torch.randn(shape, generator=made)


def plain_contrast(anchors: Tensor, positives: Tensor, negatives: Tensor, temperature: float, cosine: bool) -> Tensor:
    """One anchor after the other, in float64."""
    losses = []
    for a, ps, ns in zip(anchors.double(), positives.double(), negatives.double(), strict=True):

        def like(x: Tensor, a: Tensor = a) -> Tensor:
            size = a.norm() * x.norm() if cosine else torch.ones(())
            return (a @ x / size if size > 0 else 0 * (a @ x)) / temperature

        up = torch.stack([like(p) for p in ps]).exp().sum()
        losses.append(-(up / (up + torch.stack([like(n) for n in ns]).exp().sum())).log())
    return torch.stack(losses).mean()


@given(SEEDS, st.floats(0, 100))
def test_without_mask_it_is_the_mse_and_under_a_full_one_1_plus_lambda_times(seed: int, weight: float) -> None:
    u, v = pair(seed)
    mse = torch.nn.functional.mse_loss(u, v)
    for compat in (None, "official"):
        zero, full = (
            masked_reconstruction(u, v, m, weight=weight, compat=compat)
            for m in (torch.zeros(4, 5, 6), torch.ones(4, 5, 6))
        )
        assert torch.equal(zero, mse) and torch.equal(masked_reconstruction(u, v), mse)
        torch.testing.assert_close(full, (1 + weight) * mse, rtol=1e-5, atol=1e-6)


@given(SEEDS)
def test_binary_masks_count_alike_and_overlap_twice_or_four_times(seed: int) -> None:
    u, v = pair(seed)
    made = torch.Generator().manual_seed(seed)
    binary = (torch.rand(2, 4, 5, 6, generator=made) < 0.5).float()
    ours, theirs = (masked_reconstruction(u, v, binary, compat=c) for c in (None, "official"))
    torch.testing.assert_close(ours, theirs)
    error = (u - v).square()
    torch.testing.assert_close(ours, ((1 + 50 * binary[:, None]) * error).mean())
    for compat, times in ((None, 2.0), ("official", 4.0)):
        twice = masked_reconstruction(u, v, 2 * binary, weight=1.0, compat=compat)
        torch.testing.assert_close(twice, error.mean() + times * (binary[:, None] * error).mean())


def test_the_official_form_is_the_mse_of_masked_values_with_its_gradient() -> None:
    u, v = pair(0)
    mask = torch.rand(4, 5, 6)
    grads = []
    for form in (
        lambda x: masked_reconstruction(x, v, mask, weight=7.0, compat="official"),
        lambda x: torch.nn.functional.mse_loss(x, v) + 7 * torch.nn.functional.mse_loss(x * mask, v * mask),
    ):
        x = u.clone().requires_grad_()
        grads.append(torch.autograd.grad(form(x), x)[0])
    torch.testing.assert_close(*grads)


def test_a_mask_of_pictures_has_rows_and_columns_alone() -> None:
    u, v = pair(0, (2, 3, 5, 6))
    mask = torch.rand(2, 5, 6)
    wanted = ((1 + 50 * mask[:, None]) * (u - v).square()).mean()
    torch.testing.assert_close(masked_reconstruction(u, v, mask), wanted)


@given(SEEDS, st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_the_contrast_is_that_of_a_plain_rewrite(seed: int, p: int, n: int, cosine: bool) -> None:
    made = torch.Generator().manual_seed(seed)
    a, ps, ns = (torch.randn(3, k, 4, generator=made).requires_grad_() for k in (1, p, n))
    similarity = "cosine" if cosine else "dot"
    found = contrastive_loss(a, ps, ns, temperature=0.5, similarity=similarity)
    wanted = plain_contrast(a[:, 0], ps, ns, 0.5, cosine)
    torch.testing.assert_close(found.double(), wanted, atol=1e-5, rtol=1e-5)
    assert found >= 0
    ours, theirs = (torch.autograd.grad(loss, (a, ps, ns)) for loss in (found, wanted))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("p", "n"), [(1, 1), (4, 4), (2, 6)])
def test_equal_cosines_give_the_log_of_the_counts(p: int, n: int) -> None:
    a = torch.randn(5, 1, 3)
    same = a.expand(5, p + n, 3)
    found = contrastive_loss(a, same[:, :p], same[:, p:])
    torch.testing.assert_close(found, torch.tensor(math.log((p + n) / p)))


def test_it_is_zero_only_without_weight_on_negatives() -> None:
    a = torch.tensor([[[1.0, 0.0]]])
    assert contrastive_loss(a, a, a[:, :0]) == 0
    assert contrastive_loss(a, a, -a, temperature=0.01) < 1e-30
    assert contrastive_loss(a, a, -a, temperature=1.0) > 0.1


def test_a_static_video_has_cosine_0_and_no_nan() -> None:
    video = torch.randn(3, 1, 2, 2).expand(3, 5, 2, 2).clone().requires_grad_()
    features = appearance(video)
    changes = dynamics(features)
    assert not changes.any()
    loss = contrastive_loss(changes[:, None], torch.randn(4, 2, 3), features.expand(4, -1, -1))
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(math.log(7 / 2)))
    assert video.grad is not None and video.grad.isfinite().all() and not unit(torch.zeros(2, 3)).any()


@given(SEEDS, st.floats(0.1, 10))
def test_differences_ignore_a_constant_and_the_loss_a_scale(seed: int, scale: float) -> None:
    made = torch.Generator().manual_seed(seed)
    video, shift = torch.randn(3, 5, 2, 2, generator=made), torch.randn(3, 1, 2, 2, generator=made)
    g, moved = appearance(video), appearance(video + shift)
    torch.testing.assert_close(dynamics(moved), dynamics(g), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(moved, g)
    positives = torch.randn(4, 2, 3, generator=made)
    losses = [
        contrastive_loss(dynamics(f)[:, None], positives, f.expand(4, -1, -1)) for f in (g, appearance(scale * video))
    ]
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-4)


def test_features_are_means_over_places() -> None:
    video = torch.randn(2, 3, 5, 4, 6)
    wanted = torch.stack([torch.stack([video[b, :, i].mean((1, 2)) for i in range(5)]) for b in range(2)])
    torch.testing.assert_close(appearance(video), wanted)
    torch.testing.assert_close(dynamics(wanted), wanted[:, 1:] - wanted[:, :-1])
