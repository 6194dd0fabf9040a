"""Samplers against fields whose answer is known, and against diffusers."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.models import Prediction
from saccade.runs.denoising import ddpm, guided, guided_in_turn, rectified_flow, toward_noise
from saccade.runs.gaussian import Chain

SHAPE = (3, 2, 4, 4)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def true_noise(x: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The eps of a point mass at x, by the abar of the original times."""
    kept = Chain().kept

    def predict(z: Tensor, t: Tensor) -> Tensor:
        share = kept[t.long()].view(-1, 1, 1, 1)
        return (z - share.sqrt() * x) / (1 - share).sqrt()

    return predict


@given(st.integers(1, 60), st.integers(0, 9))
def test_the_flow_of_a_point_mass_ends_exactly_there(steps: int, seed: int) -> None:
    x = normal(seed)
    found = rectified_flow(lambda z, t: (z - x) / t.view(-1, 1, 1, 1), normal(seed + 10), steps=steps)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-12)


def test_a_flow_is_asked_at_even_times_and_its_second_half_is_left_out() -> None:
    asked = []

    def predict(z: Tensor, t: Tensor) -> Tensor:
        asked.append(t.tolist())
        return torch.cat((z, torch.full_like(z, torch.nan)), dim=1)

    noise = normal(0)
    torch.testing.assert_close(rectified_flow(predict, noise, steps=4), noise * 0.75**4)
    assert asked == [[i / 4] * 3 for i in (4, 3, 2, 1)]


@settings(deadline=None, max_examples=12)
@given(st.integers(2, 100))
def test_the_noise_of_a_point_mass_leads_there(steps: int) -> None:
    x = normal(1)
    found = ddpm(true_noise(x), normal(2), steps=steps, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, x, rtol=0, atol=1e-9)


def test_the_net_is_told_the_times_of_the_whole_chain() -> None:
    asked = []

    def predict(z: Tensor, t: Tensor) -> Tensor:
        asked.append(t[0].item())
        return torch.zeros_like(z)

    ddpm(predict, normal(0), steps=250)
    assert asked == [round(k * 999 / 249) for k in reversed(range(250))]


@pytest.mark.host
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("steps", [4, 250])
def test_steps_are_those_of_diffusers(learned: bool, steps: int) -> None:
    kind: Any = "learned_range" if learned else "fixed_small"
    scheduler = DDPMScheduler(
        beta_start=1e-4, beta_end=2e-2, clip_sample=False, variance_type=kind, timestep_spacing="linspace"
    )
    scheduler.set_timesteps(steps)
    net = torch.nn.Conv2d(2, 4 if learned else 2, 3, padding=1).double()
    for i, weight in enumerate(net.parameters()):
        weight.data = 0.1 * normal(5 + i, *weight.shape)

    def predict(z: Tensor, t: Tensor) -> Tensor:
        return net(z).tanh() * (1 + t.view(-1, 1, 1, 1) / 1000)

    z, noise = normal(7), torch.Generator().manual_seed(8)
    found = ddpm(predict, z, steps=steps, generator=torch.Generator().manual_seed(8))
    with torch.no_grad():
        for t in scheduler.timesteps:
            z = scheduler.step(predict(z, t.expand(3)), t, z, generator=noise).prev_sample  # type: ignore[union-attr]
    torch.testing.assert_close(found, z, rtol=2e-4, atol=2e-4 * float(z.std()))  # its tables are float32


def test_clipping_bounds_the_guess_of_the_picture() -> None:
    found = ddpm(true_noise(3 * torch.ones(SHAPE).double()), normal(0), steps=5, clip=1.0)
    torch.testing.assert_close(found, torch.ones(SHAPE).double())


def model(z: Tensor, t: Tensor, condition: Any) -> SimpleNamespace:
    said = condition["words"] if isinstance(condition, dict) else condition
    return SimpleNamespace(out=(z + t.view(-1, 1, 1, 1)) * said.view(-1, 1, 1, 1))


@given(st.floats(0, 8), st.sampled_from([None, 1, 2]))
def test_guidance_leads_away_from_the_null(scale: float, channels: int | None) -> None:
    z, t, condition, null = normal(0), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1, 2, 3]), torch.tensor([5, 5, 5])
    found = guided(model, condition, null, scale, channels)(z, t)
    c, u = model(z, t, condition).out, model(z, t, null).out
    end = 2 if channels is None else channels
    torch.testing.assert_close(found[:, :end], (u + scale * (c - u))[:, :end])
    torch.testing.assert_close(found[:, end:], c[:, end:])


def test_no_guidance_asks_for_the_condition_alone() -> None:
    z, t, condition = normal(0), torch.zeros(3), torch.tensor([1, 2, 3])
    assert torch.equal(guided(model, condition, condition, 1.0)(z, t), model(z, t, condition).out)


def test_words_are_joined_by_name() -> None:
    z, t, condition = normal(0), torch.zeros(3), torch.tensor([1, 2, 3])
    found = guided(model, {"words": condition}, {"words": 0 * condition}, 3.0)(z, t)
    torch.testing.assert_close(found, guided(model, condition, 0 * condition, 3.0)(z, t))


@given(st.floats(-1, 8), st.floats(-1, 8))
def test_guidance_in_turn_has_a_scale_for_each_step(first: float, second: float) -> None:
    z, t, said = normal(0), torch.tensor([0.1, 0.2, 0.3]), [torch.tensor([i, i + 2, 4 - i]) for i in (1, 2, 3)]
    outs = [model(z, t, each).out for each in said]
    found = guided_in_turn(model, said, (first, second))(z, t)
    torch.testing.assert_close(found, outs[0] + first * (outs[1] - outs[0]) + second * (outs[2] - outs[1]))
    torch.testing.assert_close(guided_in_turn(model, said, (1.0, 1.0))(z, t), outs[2])
    named = [{"words": each} for each in said[:2]]
    torch.testing.assert_close(
        guided_in_turn(model, named, (first,))(z, t), guided(model, said[1], said[0], first)(z, t)
    )


def test_guidance_in_turn_needs_a_scale_for_each_step() -> None:
    with pytest.raises(ValueError, match="2 scales lead between 3 conditions; 2 are given"):
        guided_in_turn(model, [torch.ones(3), torch.ones(3)], (1.0, 2.0))


def test_velocities_lead_where_the_noise_leads() -> None:
    x, eps, chain = normal(1), true_noise(normal(1)), Chain()

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        return chain.velocity(x, eps(z, t), t.long())

    one, two = (
        ddpm(predict, normal(2), steps=7, generator=torch.Generator().manual_seed(3), predicts=name)  # type: ignore[arg-type]
        for predict, name in ((eps, "noise"), (velocity, "velocity"))
    )
    torch.testing.assert_close(one, two, rtol=0, atol=1e-9)


class FromNoise:
    """The exact velocity from noise at t = 0 to a picture at t = 1."""

    noise_at = 0

    def __init__(self, x: Tensor, noise: Tensor) -> None:
        self.velocity, self.asked = x - noise, list[float]()

    def __call__(self, z: Tensor, t: Tensor, condition: Any) -> Prediction:
        self.asked += t.tolist()[:1]
        return Prediction(self.velocity, {})


@given(st.integers(1, 20))
def test_a_constant_velocity_from_noise_leads_to_the_picture_in_any_number_of_steps(steps: int) -> None:
    x, noise = normal(0), normal(1)
    net = FromNoise(x, noise)
    found = rectified_flow(guided(toward_noise(net), torch.zeros(3), torch.zeros(3)), noise, steps=steps)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.tensor(net.asked), torch.arange(steps) / steps, rtol=0, atol=1e-6)


def test_other_models_are_as_they_are() -> None:
    assert toward_noise(model) is model


def test_a_learned_variance_is_not_guided() -> None:
    def two(z: Tensor, t: Tensor, labels: Tensor) -> SimpleNamespace:
        return SimpleNamespace(out=torch.cat((z, z), dim=1) * labels.view(-1, 1, 1, 1))

    z, condition = normal(0), torch.ones(3)
    found = guided(two, condition, 0 * condition, 4.0)(z, condition)
    torch.testing.assert_close(found, torch.cat((4 * z, z), dim=1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: rectified_flow(lambda z, t: z, z, steps=0), "steps=0 must be at least 1"),
        (lambda z: ddpm(lambda z, t: z, z, steps=1), "steps=1 must be between 2 and 1000"),
        (lambda z: ddpm(lambda z, t: z[:, :1], z), "predict answers with 1 channels; 2 or 4 are expected"),
        (lambda z: guided(model, z, z, 2.0, 3)(z, z), "channels=3 must be between 1 and 2, or None"),
    ],
)
def test_a_wrong_call_is_answered_with_the_mend(call: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(normal(0))
