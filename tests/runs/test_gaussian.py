"""The chain against the algebra it stands for."""

from collections.abc import Callable
from math import log, pi

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from saccade.models.architecture import Prediction
from saccade.runs.gaussian import Chain, byte_nll, divergence, linear_betas, scaled_linear_betas
from saccade.train.objectives import Ddpm

CHAIN = Chain()
SHAPE = (2, 3, 4, 4)


def normal(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def steps(*k: int) -> Tensor:
    return torch.tensor(k)


def test_the_scaled_linear_schedule_is_that_of_diffusers() -> None:
    theirs = DDPMScheduler(beta_schedule="scaled_linear", beta_start=8.5e-4, beta_end=1.2e-2).betas
    torch.testing.assert_close(scaled_linear_betas().float(), theirs, rtol=1e-5, atol=0)


def test_velocity_and_noise_say_the_same() -> None:
    x, noise, k = normal(0), normal(1), steps(3, 900)
    z, v = CHAIN.noised(x, noise, k), CHAIN.velocity(x, noise, k)
    torch.testing.assert_close(CHAIN.noise_of(z, v, k), noise)
    kept = CHAIN.kept[k].view(-1, 1, 1, 1)
    torch.testing.assert_close(v, kept.sqrt() * noise - (1 - kept).sqrt() * x)


def test_the_schedule_is_linear_and_leaves_almost_nothing() -> None:
    assert (CHAIN.betas[0], CHAIN.betas[-1], len(CHAIN)) == (1e-4, 2e-2, 1000)
    torch.testing.assert_close(CHAIN.betas.diff(), torch.full((999,), 0.0199 / 999, dtype=torch.float64))
    assert CHAIN.kept[-1] < 1e-4


@given(st.integers(0, 999), st.integers(0, 999))
def test_the_noise_tells_the_picture(a: int, b: int) -> None:
    x, noise, k = normal(0), normal(1), steps(a, b)
    torch.testing.assert_close(CHAIN.clean(CHAIN.noised(x, noise, k), noise, k), x)


@given(st.integers(1, 999))
def test_two_steps_are_one(k: int) -> None:
    """Means and variances of x_{k-1} followed by one more step are those of x_k."""
    scale, variance = (1 - CHAIN.betas[k]).sqrt(), CHAIN.betas[k]
    torch.testing.assert_close(scale * CHAIN.kept[k - 1].sqrt(), CHAIN.kept[k].sqrt())
    torch.testing.assert_close(scale**2 * (1 - CHAIN.kept[k - 1]) + variance, 1 - CHAIN.kept[k])


@given(st.integers(1, 999))
def test_the_posterior_is_that_of_bayes(k: int) -> None:
    """q(x_{k-1} | x_k, x_0) by adding precisions, q(x_k | x_{k-1}) read as a likelihood."""
    x, z = normal(2), normal(3)
    before, beta = CHAIN.kept[k - 1], CHAIN.betas[k]
    precision = 1 / (1 - before) + (1 - beta) / beta
    mean = (before.sqrt() * x / (1 - before) + (1 - beta).sqrt() * z / beta) / precision
    torch.testing.assert_close(CHAIN.posterior_mean(x, z, steps(k, k)), mean)
    torch.testing.assert_close(CHAIN.log_posterior[k].exp(), 1 / precision)


def test_the_last_step_ends_at_the_picture() -> None:
    x = normal(2)
    torch.testing.assert_close(CHAIN.posterior_mean(x, normal(3), steps(0, 0)), x)
    assert CHAIN.log_posterior[0] == CHAIN.log_posterior[1]


@given(st.integers(0, 999), st.integers(0, 999))
def test_the_learned_variance_lies_between_its_bounds(a: int, b: int) -> None:
    k, v = steps(a, b), torch.ones(SHAPE, dtype=torch.float64)
    found = [CHAIN.log_variance(share * v, k)[:, 0, 0, 0] for share in (-1, 0, 1)]
    low, high = CHAIN.log_posterior[k], CHAIN.betas[k].log()
    torch.testing.assert_close(found, [low, (low + high) / 2, high])
    assert torch.equal(CHAIN.log_variance(None, k), low)


@settings(deadline=None)
@given(st.integers(2, 1000))
def test_a_respaced_chain_keeps_abar_and_times(count: int) -> None:
    short = CHAIN.respaced(count)
    assert short.times.tolist() == [round(k * 999 / (count - 1)) for k in range(count)]
    torch.testing.assert_close(short.kept, CHAIN.kept[short.times])


def test_all_steps_are_the_chain_itself() -> None:
    torch.testing.assert_close(CHAIN.respaced(1000).betas, CHAIN.betas)


def test_the_divergence_is_that_of_torch() -> None:
    mean1, variance1, mean2, variance2 = (normal(seed) for seed in range(4))
    laws = [Normal(mean, (variance / 2).exp()) for mean, variance in ((mean1, variance1), (mean2, variance2))]
    torch.testing.assert_close(divergence(mean1, variance1, mean2, variance2), kl_divergence(*laws))


@settings(deadline=None)
@given(st.floats(-1.2, 1.2), st.floats(-10, 2))
def test_the_bytes_share_all_of_the_probability(mean: float, log_variance: float) -> None:
    values = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    nll = byte_nll(values, torch.full_like(values, mean), torch.full_like(values, log_variance))
    assert float((-nll).exp().sum()) == pytest.approx(1, abs=1e-9)


def test_a_byte_costs_what_its_interval_weighs() -> None:
    x = torch.tensor([0.0], dtype=torch.float64)
    law = Normal(0.1, 0.2)
    weight = law.cdf(torch.tensor(1 / 255)) - law.cdf(torch.tensor(-1 / 255))
    found = byte_nll(x, torch.full_like(x, 0.1), torch.full_like(x, 2 * log(0.2)))
    torch.testing.assert_close(found.float(), -weight.log()[None], rtol=1e-4, atol=0)


@given(st.integers(1, 999), st.integers(1, 999))
def test_the_true_noise_and_variance_cost_nothing(a: int, b: int) -> None:
    x, noise, k = normal(0), normal(1), steps(a, b)
    z = CHAIN.noised(x, noise, k)
    found = CHAIN.bound(x, z, noise, -torch.ones_like(x), k)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-9)


def test_the_bound_is_a_divergence_in_bits_and_at_the_end_the_cost_of_bytes() -> None:
    x, noise, eps, v, k = (normal(0) / 3).round(decimals=1), normal(1), normal(2), normal(3), steps(0, 17)
    z = CHAIN.noised(x, noise, k)
    mean, variance = CHAIN.posterior_mean(CHAIN.clean(z, eps, k), z, k), CHAIN.log_variance(v, k)
    true = CHAIN.posterior_mean(x, z, k)[1], CHAIN.log_posterior[17]
    apart = kl_divergence(Normal(true[0], (true[1] / 2).exp()), Normal(mean[1], (variance[1] / 2).exp()))
    expected = torch.stack((byte_nll(x, mean, variance)[0].mean(), apart.mean())) / log(2)
    torch.testing.assert_close(CHAIN.bound(x, z, eps, v, k), expected)


@pytest.mark.parametrize("betas", [torch.tensor([0.1]).double(), torch.tensor([0.1, 1.0]).double()])
def test_a_broken_schedule_is_refused(betas: Tensor) -> None:
    with pytest.raises(ValueError, match="must be two or more, all between 0 and 1"):
        Chain(betas=betas, times=torch.arange(len(betas)))


def test_times_must_be_as_many_as_betas() -> None:
    with pytest.raises(ValueError, match="times has 1000 entries for 10 betas; give one for each"):
        Chain(betas=linear_betas(10))
    with pytest.raises(ValueError, match="steps=1 must be between 2 and 1000"):
        CHAIN.respaced(1)


def released(x: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """-log probability as the code of Ho et al., and of DiT and all that follow it, writes it."""

    def cdf(y: Tensor) -> Tensor:
        return 0.5 * (1.0 + torch.tanh((2.0 / pi) ** 0.5 * (y + 0.044715 * y.pow(3))))

    inverse = (-log_scales).exp()
    plus, minus = cdf(inverse * (x - means + 1.0 / 255.0)), cdf(inverse * (x - means - 1.0 / 255.0))
    ends = torch.where(x > 0.999, 1.0 - minus, plus - minus)
    return -torch.where(x < -0.999, plus, ends).clamp(min=1e-12).log()


@settings(deadline=None)
@given(st.floats(-1.2, 1.2), st.floats(-10, 2))
def test_the_official_cost_is_that_of_the_released_code(mean: float, log_variance: float) -> None:
    ends = [-1.5, -0.9991, -0.9989, -0.997, -0.995, 0.995, 0.997, 0.9989, 0.9991, 1.5]
    for dtype in (torch.float64, torch.float32):
        values = torch.cat((torch.arange(256) / 127.5 - 1, torch.tensor(ends))).to(dtype)
        law = torch.full_like(values, mean), torch.full_like(values, log_variance)
        found = byte_nll(values, *law, compat="official")
        torch.testing.assert_close(found, released(values, law[0], 0.5 * law[1]))


def test_the_official_cost_differs_by_its_approximation_and_by_its_end_bins() -> None:
    """Near the mean a byte costs the same; 0.998 is of the last byte here, which owns all beyond, not there."""
    values = torch.tensor([-1.0, 109 / 127.5, 1.0, 0.998], dtype=torch.float64)
    law = torch.full_like(values, 0.9), torch.full_like(values, -5.0)
    ours, theirs = byte_nll(values, *law), byte_nll(values, *law, compat="official")
    assert (ours[1:3] - theirs[1:3]).abs().max() < 0.02 and not torch.equal(ours, theirs)
    assert theirs[3] > ours[3] + 1


def test_the_chain_hands_the_official_form_on() -> None:
    x, noise, eps, v, k = normal(0) / 3, normal(1), normal(2), normal(3), steps(0, 17)
    z = CHAIN.noised(x, noise, k)
    exact, official = (Chain(compat=compat).bound(x, z, eps, v, k) for compat in (None, "official"))
    assert exact[0] != official[0] and exact[1] == official[1]
    assert Chain(compat="official").respaced(10).compat == "official"


@pytest.mark.parametrize("make", [lambda: Chain(compat="paper"), lambda: Ddpm(compat="paper")])  # type: ignore[arg-type]
def test_a_form_there_is_not_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="compat='paper' must be 'official' or None"):
        make()


def test_the_objective_takes_the_official_form() -> None:
    x, noise, t = normal(0).float() / 3, normal(1).float(), torch.zeros(2)

    def model(z: Tensor, t: Tensor, condition: None) -> Prediction:
        return Prediction(torch.cat((z, z), dim=1), {})

    exact, official = (Ddpm(compat=compat).loss(model, x, None, t, noise) for compat in (None, "official"))
    assert exact["mse"] == official["mse"] and exact["bound"] != official["bound"]
