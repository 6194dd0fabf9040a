"""Muon's step: goldens, torch's own, bounds, stacks, filters and fused rows; convergence; refusals."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from saccade.train.muon import AdjustLr, Muon, lr_scale
from saccade.train.newton_schulz import newton_schulz, polar

GOLDENS = Path(__file__).resolve().parents[1] / "goldens" / "muon-mla-moe"


def _weight(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype))


def _stepped(weight: nn.Parameter, *gradients: Tensor, **options: Any) -> Tensor:
    """The weight after a step by each gradient."""
    found = nn.Parameter(weight.detach().clone())
    muon = Muon([found], **options)
    for gradient in gradients:
        found.grad = gradient.clone()
        muon.step()
    return found.detach()


@pytest.mark.parametrize("name", ["tall", "square"])
@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("jordan", {"adjust_lr": "original"}),
        ("moonlight", {"adjust_lr": "match_rms_adamw", "momentum_form": "sum"}),
    ],
)
def test_goldens(name: str, code: str, options: dict[str, Any]) -> None:
    found = load_file(GOLDENS / "case_steps.safetensors")
    weight = nn.Parameter(found[f"{name}_W0"].clone())
    muon = Muon([weight], 0.02, weight_decay=0.1, **options)
    for gradient, wanted in zip(found[f"{name}_grads"], found[f"{name}_{code}_fp32"], strict=True):
        weight.grad = gradient.clone()
        muon.step()
        torch.testing.assert_close(weight.detach(), wanted, atol=1e-5, rtol=0)
    if (key := f"{name}_{code}_fp32_momentum") in found:
        torch.testing.assert_close(muon.state[weight]["momentum_buffer"], found[key])


@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_equals_torchs_own_in_bfloat16(adjust_lr: AdjustLr, nesterov: bool, shape: tuple[int, int]) -> None:
    ours, theirs = (_weight(*shape) for _ in range(2))
    muon = Muon([ours], 0.02, adjust_lr=adjust_lr, nesterov=nesterov, ns_dtype=torch.bfloat16)
    plain = torch.optim.Muon([theirs], 0.02, adjust_lr_fn=adjust_lr, nesterov=nesterov)
    for step in range(4):
        ours.grad, theirs.grad = (torch.randn(shape, generator=torch.Generator().manual_seed(step)) for _ in range(2))
        muon.step()
        plain.step()
    scale = lr_scale(*shape, adjust_lr)
    torch.testing.assert_close(ours.detach(), theirs.detach(), atol=4 * 0.1 * 0.02 * scale, rtol=0)
    torch.testing.assert_close(muon.state[ours]["momentum_buffer"], plain.state[theirs]["momentum_buffer"])


@pytest.mark.parametrize("nesterov", [True, False])
def test_a_sum_of_gradients_has_the_direction_of_their_mean(nesterov: bool) -> None:
    weight, steps = _weight(5, 4, dtype=torch.float64), [torch.randn(5, 4, dtype=torch.float64) for _ in range(4)]
    forms = [_stepped(weight, *steps, momentum_form=form, nesterov=nesterov) for form in ("ema", "sum")]
    torch.testing.assert_close(*forms)


def test_without_iterations_it_is_normalised_momentum() -> None:
    weight, gradients = _weight(5, 4, dtype=torch.float64), torch.randn(3, 5, 4, dtype=torch.float64)
    options: dict[str, Any] = {"ns_steps": 0, "adjust_lr": "none", "weight_decay": 0.0, "lr": 0.1}
    wanted, buffer = weight.detach().clone(), torch.zeros(5, 4, dtype=torch.float64)
    for gradient in gradients:
        buffer = 0.95 * buffer + 0.05 * gradient
        ahead = 0.05 * gradient + 0.95 * buffer
        wanted -= 0.1 * ahead / ahead.norm()
    torch.testing.assert_close(_stepped(weight, *gradients, **options), wanted)


@pytest.mark.parametrize("method", ["newton_schulz", "svd"])
@given(seed=st.integers(0, 99))
def test_update_is_bounded_and_decay_uses_the_rate_that_is_not_scaled(method: Any, seed: int) -> None:
    weight, gradient = _weight(12, 5, seed=seed), _weight(12, 5, seed=seed + 1).detach()
    new = _stepped(weight, gradient, lr=0.02, weight_decay=0.3, method=method)
    moved = torch.linalg.svdvals(new - (1 - 0.02 * 0.3) * weight.detach())
    assert float(moved[0]) <= (1.2024 if method == "newton_schulz" else 1.0) * 0.02 * (12 / 5) ** 0.5 * 1.0001


def test_weight_decay_bounds_the_spectral_norm() -> None:
    weight = nn.Parameter(10 * torch.eye(6))
    muon = Muon([weight], 0.1, weight_decay=2.0, momentum=0.0)
    for seed in range(60):
        weight.grad = _weight(6, 6, seed=seed % 3).detach()
        muon.step()
    assert float(torch.linalg.svdvals(weight.detach())[0]) <= 1.2024 / 2.0 + 1e-3


def test_scales() -> None:
    assert [lr_scale(8, 2, each) for each in ("original", "match_rms_adamw", "none")] == [2.0, 0.2 * 8**0.5, 1.0]
    assert lr_scale(2, 8, "original") == 1.0
    moved = _stepped(nn.Parameter(torch.zeros(96, 64)), torch.randn(96, 64), lr=1.0, adjust_lr="match_rms_adamw")
    assert 0.16 <= float(moved.square().mean().sqrt()) <= 0.18  # of AdamW's 0.2


def test_stacks_and_filters_are_matrices_and_fused_rows_several() -> None:
    stack, filters, fused = _weight(3, 4, 6), _weight(8, 2, 3, 3), _weight(12, 4)
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.0, "nesterov": False}
    grads = [torch.randn_like(each) for each in (stack, filters, fused)]
    moved = [
        (each - _stepped(each, grad, split_rows=rows, **options)) / 0.1
        for each, grad, rows in zip((stack, filters, fused), grads, (None, None, (4, 6, 2)), strict=True)
    ]
    torch.testing.assert_close(moved[0], torch.stack([newton_schulz(each) for each in grads[0]]))
    torch.testing.assert_close(moved[1].flatten(1), newton_schulz(grads[1].flatten(1)))
    parts = [newton_schulz(each) * max(1, len(each) / 4) ** 0.5 for each in grads[2].split((4, 6, 2))]
    torch.testing.assert_close(moved[2], torch.cat(parts))
    whole = (fused - _stepped(fused, grads[2], **options)) / 0.1
    assert not torch.allclose(whole, moved[2], atol=0.1)
    a_conv_by_shape = (filters - _stepped(filters, grads[1], adjust_lr="match_rms_adamw", **options)) / 0.1
    torch.testing.assert_close(a_conv_by_shape, moved[1] * 0.2 * 18**0.5)  # 8 x 18, not the window


def test_exact_steps_are_polar_factors() -> None:
    weight, gradient = _weight(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    moved = weight.detach() - _stepped(weight, gradient, method="svd", lr=1.0, weight_decay=0.0)
    torch.testing.assert_close(moved, polar(gradient))


def test_converges_as_the_bound_says() -> None:
    """f = ||W - W*||^2 / 2 has smoothness 1: the least nuclear norm of a gradient is below sqrt(2 D r / T)."""
    aim, weight, steps = _weight(12, 8, seed=3).detach(), nn.Parameter(torch.zeros(12, 8)), 200
    bound = (2 * 0.5 * float(aim.square().sum()) * 8 / steps) ** 0.5
    rate = (2 * 0.5 * float(aim.square().sum()) / (8 * steps)) ** 0.5
    muon, least = Muon([weight], rate, weight_decay=0, momentum=0, method="svd", adjust_lr="none"), float("inf")
    for _ in range(steps):
        weight.grad = weight.detach() - aim
        least = min(least, float(torch.linalg.svdvals(weight.grad).sum()))
        muon.step()
    assert least <= bound


def test_state_is_half_of_adamws_and_survives_storing() -> None:
    weight, gradient = _weight(6, 4), torch.randn(6, 4)
    muon, adam = Muon([weight]), torch.optim.AdamW([_weight(6, 4)])
    weight.grad = adam.param_groups[0]["params"][0].grad = gradient
    muon.step()
    adam.step()
    numbers = [sum(v.numel() for s in o.state.values() for v in s.values() if v.numel() > 1) for o in (muon, adam)]
    assert numbers == [24, 48]
    other = nn.Parameter(weight.detach().clone())
    again = Muon([other])
    again.load_state_dict(deepcopy(muon.state_dict()))  # or they would share the buffer
    weight.grad, other.grad = torch.ones(6, 4).triu(), torch.ones(6, 4).triu()
    muon.step()
    again.step()
    torch.testing.assert_close(weight, other)
    assert torch.equal(muon.state[weight]["momentum_buffer"], again.state[other]["momentum_buffer"])


def test_a_weight_without_gradient_is_left_and_a_gradient_is_not_written_on() -> None:
    idle, used = _weight(3, 3), _weight(3, 3, seed=1)
    before, gradient = idle.detach().clone(), torch.randn(3, 3)
    used.grad = gradient.clone()
    assert Muon([idle, used]).step(lambda: 7.0) == 7.0
    assert torch.equal(idle, before) and torch.equal(used.grad, gradient)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_changes_nothing_and_is_named(bad: float) -> None:
    first, second = _weight(3, 3), _weight(3, 4)
    muon = Muon([("first.weight", first), ("second.weight", second)])
    first.grad, second.grad = torch.ones(3, 3), torch.ones(3, 4)
    second.grad[1, 2] = bad
    before = first.detach().clone()
    with pytest.raises(FloatingPointError, match=r"gradient of second.weight holds NaN or infinity.*Skip this step"):
        muon.step()
    assert torch.equal(first, before) and not muon.state


def test_sparse_gradients_are_refused() -> None:
    table = nn.Embedding(4, 3, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"gradient of a weight of shape \(4, 3\) is sparse; give embeddings to AdamW"):
        Muon(table.parameters()).step()


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3,), {}, r"a weight of shape \(3,\) has 1 axes, and Muon needs a matrix"),
        ((3, 3), {"lr": -1.0}, "lr=-1.0 must be at least 0"),
        ((3, 3), {"weight_decay": -1.0}, "weight_decay=-1.0 must be at least 0"),
        ((3, 3), {"momentum": 1.0}, r"momentum=1.0 must be in \[0, 1\)"),
        ((3, 3), {"momentum": -0.1}, r"momentum=-0.1 must be in \[0, 1\)"),
        ((3, 3), {"ns_steps": -1}, "ns_steps=-1 must be at least 0"),
        ((3, 3), {"ns_steps": 100}, "ns_steps=100 must be at least 0 and below 100"),
        ((3, 3), {"adjust_lr": "rms"}, "adjust_lr='rms' must be one of original, match_rms_adamw, none"),
        ((3, 3), {"momentum_form": "mean"}, "momentum_form='mean' must be one of ema, sum"),
        ((3, 3), {"method": "qr"}, "method='qr' must be one of newton_schulz, svd"),
        ((3, 3), {"split_rows": (2, 2)}, r"split_rows=\(2, 2\) must be positive and sum to the 3 rows"),
    ],
)
def test_bad_options(shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Muon([_weight(*shape)], **options)


def test_complex_weights_are_refused_and_a_group_that_is_wrong_is_not_kept() -> None:
    muon = Muon([_weight(2, 2)])
    with pytest.raises(ValueError, match="is complex, and Muon takes real matrices only"):
        muon.add_param_group({"params": [nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))]})
    assert len(muon.param_groups) == 1
    with pytest.raises(ValueError, match="more than one parameter group"):
        muon.add_param_group({"params": muon.param_groups[0]["params"]})
