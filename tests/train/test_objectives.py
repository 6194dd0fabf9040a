"""What a denoiser is taught, against plain rewrites in float64."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from saccade.models import Prediction
from saccade.runs.gaussian import Chain
from saccade.train.objectives import Ddpm, Objective, RectifiedFlow, total

SHAPE = (6, 2, 4, 4)
BOTH: list[Objective] = [RectifiedFlow(), Ddpm()]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape or SHAPE, generator=torch.Generator().manual_seed(seed))


class Net(nn.Module):
    """A convolution that minds time and label; `wide`: twice the channels."""

    def __init__(self, wide: bool = False, **losses: float) -> None:
        super().__init__()
        self.conv, self.losses = nn.Conv2d(2, 4 if wide else 2, 3, padding=1), losses
        for i, weight in enumerate(self.parameters()):
            weight.data = normal(20 + i, *weight.shape) / 5

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Prediction:
        scale = (1 + labels + t / 1000).view(-1, 1, 1, 1)
        return Prediction(self.conv(x) * scale, {k: v * self.conv.weight.sum() for k, v in self.losses.items()})


X, NOISE, LABELS = normal(0), normal(1), torch.arange(6)


def test_the_flow_is_taught_the_velocity() -> None:
    t = torch.rand(6, generator=torch.Generator().manual_seed(2))
    found = RectifiedFlow().loss(Net(), X, LABELS, t, NOISE)
    share = t.double().view(-1, 1, 1, 1)
    z = (1 - share) * X.double() + share * NOISE.double()
    expected = (Net()(z.float(), t, LABELS).out.double() - (NOISE - X).double()).square().mean()
    torch.testing.assert_close(found["loss"].double(), expected)
    assert found["loss"] is not found["mse"]
    assert found.keys() == {"loss", "mse"}


class Turned(Net):
    """The same net, as a flow from noise at t = 0."""

    noise_at = 0

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Prediction:
        found = super().forward(x, t, labels)
        return Prediction(found.out, found.losses)


def test_a_flow_from_noise_at_0_is_taught_picture_less_noise() -> None:
    t = torch.rand(6, generator=torch.Generator().manual_seed(2))
    net, share = Turned(), (1 - t).view(-1, 1, 1, 1)
    found = RectifiedFlow().loss(net, X, LABELS, t, NOISE)["loss"]
    out = net(share * X + (1 - share) * NOISE, 1 - t, LABELS).out
    torch.testing.assert_close(found, (out - (X - NOISE)).square().mean())


@given(st.floats(0.1, 50))
def test_min_snr_weights_are_one_up_to_the_limit_and_below_it_beyond(limit: float) -> None:
    objective, k = Ddpm(), torch.arange(1000)
    snr = objective.chain.kept / (1 - objective.chain.kept)
    weight = objective.snr_weight(k, limit)
    assert (weight <= 1).all() and (weight[snr <= limit] == 1).all() and (weight[snr > limit * 1.001] < 1).all()
    torch.testing.assert_close(weight, (snr.clamp(max=limit) / snr).float())
    other = Ddpm(predicts="velocity").snr_weight(k, limit)
    torch.testing.assert_close(other, (snr.clamp(max=limit) / (snr + 1)).float())


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_ddpm_weighs_each_row_by_its_step(predicts: Any) -> None:
    t = torch.tensor([0.0, 5.0, 80.0, 300.0, 700.0, 999.0])
    objective = Ddpm(snr_limit=5.0, predicts=predicts, schedule="scaled_linear", low=8.5e-4, high=1.2e-2)
    found = objective.loss(Net(), X, LABELS, t, NOISE)["loss"]
    kept = (
        torch.linspace(8.5e-4**0.5, 1.2e-2**0.5, 1000, dtype=torch.float64).square().neg().add(1).cumprod(0)[t.long()]
    )
    share, snr = kept.view(-1, 1, 1, 1), kept / (1 - kept)
    z = share.sqrt() * X + (1 - share).sqrt() * NOISE
    wanted = NOISE if predicts == "noise" else share.sqrt() * NOISE - (1 - share).sqrt() * X
    rows = (Net()(z.float(), t, LABELS).out - wanted).square().mean((1, 2, 3))
    weight = snr.clamp(max=5) / (snr + (predicts == "velocity"))
    torch.testing.assert_close(found.double(), (weight * rows).mean(), rtol=1e-5, atol=1e-6)


def test_the_bound_is_the_same_by_noise_and_by_velocity() -> None:
    t = torch.tensor([5.0, 80.0, 300.0, 500.0, 700.0, 999.0])
    chain, k = Ddpm().chain, t.long()

    def net(z: Tensor, times: Tensor, labels: Tensor) -> Prediction:
        return Prediction(torch.cat((NOISE / 2, X / 9), dim=1), {})

    def turned(z: Tensor, times: Tensor, labels: Tensor) -> Prediction:
        velocity = (NOISE / 2 - (1 - chain.kept[k].view(-1, 1, 1, 1)).sqrt().float() * z) / chain.kept[k].view(
            -1, 1, 1, 1
        ).sqrt().float()
        return Prediction(torch.cat((velocity, X / 9), dim=1), {})

    one = Ddpm().loss(net, X, LABELS, t, NOISE)["bound"]
    two = Ddpm(predicts="velocity").loss(turned, X, LABELS, t, NOISE)["bound"]
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def test_times_may_be_uniform() -> None:
    flow = RectifiedFlow(times="uniform")
    drawn = flow.draw(np.random.default_rng(0), 4000)
    assert 0 <= drawn.min() < 0.01 and 0.99 < drawn.max() <= 1 and abs(float(drawn.mean()) - 0.5) < 0.02
    assert flow.spread(4).tolist() == [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: RectifiedFlow(times="even"), "times='even' is unknown; choose one of logit-normal, uniform"),  # type: ignore[arg-type]
        (lambda: Ddpm(schedule="cosine"), "schedule='cosine' is unknown; choose one of linear, scaled_linear"),  # type: ignore[arg-type]
        (lambda: Ddpm(predicts="picture"), "predicts='picture' is unknown; choose one of noise, velocity"),  # type: ignore[arg-type]
        (lambda: Ddpm(snr_limit=0.0), "snr_limit=0.0 must be above 0"),
    ],
)
def test_options_that_there_are_not(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_a_flow_discards_the_second_half() -> None:
    t = torch.rand(6)
    net = Net(wide=True)
    RectifiedFlow().loss(net, X, LABELS, t, NOISE)["loss"].backward()
    assert net.conv.weight.grad is not None
    assert net.conv.weight.grad[:2].abs().sum() > 0
    assert net.conv.weight.grad[2:].abs().sum() == 0


def test_ddpm_is_taught_the_noise() -> None:
    t = torch.tensor([0.0, 3.0, 100.0, 500.0, 998.0, 999.0])
    found = Ddpm().loss(Net(), X, LABELS, t, NOISE)
    kept = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64).neg().add(1).cumprod(0)[t.long()].view(-1, 1, 1, 1)
    z = kept.sqrt() * X.double() + (1 - kept).sqrt() * NOISE.double()
    expected = (Net()(z.float(), t, LABELS).out.double() - NOISE.double()).square().mean()
    torch.testing.assert_close(found["mse"].double(), expected, rtol=1e-5, atol=0)
    assert torch.equal(found["loss"], found["mse"])


def test_the_bound_is_that_of_the_chain_and_teaches_the_variance_alone() -> None:
    t, net = torch.tensor([0.0, 3.0, 100.0, 500.0, 998.0, 999.0]), Net(wide=True)
    found = Ddpm().loss(net, X, LABELS, t, NOISE)
    z = Chain().noised(X, NOISE, t.long())
    eps, v = net(z, t, LABELS).out.chunk(2, dim=1)
    torch.testing.assert_close(found["bound"], Chain().bound(X, z, eps, v, t.long()).mean())
    torch.testing.assert_close(found["loss"], found["mse"] + found["bound"])
    (noise_part,) = torch.autograd.grad(found["bound"], net.conv.weight, retain_graph=True)
    assert noise_part[:2].abs().sum() == 0 < noise_part[2:].abs().sum()
    assert torch.isfinite(noise_part).all()


@pytest.mark.parametrize("objective", BOTH)
def test_losses_are_of_single_precision_whatever_the_net_runs_in(objective: Objective) -> None:
    t = objective.spread(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = objective.loss(Net(wide=True), X, LABELS, t, NOISE)
    assert {value.dtype for value in found.values()} == {torch.float32}


@pytest.mark.parametrize("kind", [RectifiedFlow, Ddpm])
def test_a_models_own_losses_are_added_by_their_weights(kind: Callable[..., Objective]) -> None:
    objective, t = kind(weights={"balance": 0.5}), kind().spread(6)
    found = objective.loss(Net(balance=2.0, spare=3.0), X, LABELS, t, NOISE)
    torch.testing.assert_close(found["loss"], found["mse"] + 0.5 * found["balance"] + found["spare"])
    assert list(found) == ["loss", "mse", "balance", "spare"]


@pytest.mark.parametrize(
    ("own", "weights", "message"),
    [
        ({"balance": 1.0}, {"balence": 2.0}, "weights name 'balence', no loss of this model; it has balance"),
        ({}, {"balance": 2.0}, "it has none"),
        ({"mse": 1.0}, {}, "own loss 'mse' has the name of a part of the objective; rename it"),
    ],
)
def test_wrong_names_of_losses_are_told(own: dict[str, float], weights: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        total({"mse": torch.ones(())}, {name: torch.tensor(value) for name, value in own.items()}, weights)


@pytest.mark.parametrize("objective", BOTH)
def test_times_to_judge_at_are_quantiles_of_those_to_train_at(objective: Objective) -> None:
    drawn = objective.draw(np.random.default_rng(0), 20000).sort().values
    even = objective.spread(20)
    ranks = torch.searchsorted(drawn, even) / len(drawn)
    torch.testing.assert_close(ranks, (torch.arange(20) + 0.5) / 20, rtol=0, atol=0.02)


@given(st.integers(0, 1000), st.integers(1, 64))
def test_times_depend_on_the_random_state_alone(seed: int, n: int) -> None:
    for objective in BOTH:
        first, second = (objective.draw(np.random.default_rng(seed), n) for _ in range(2))
        assert torch.equal(first, second)
        assert first.dtype == torch.float32
    assert (RectifiedFlow().draw(np.random.default_rng(seed), n) <= 1).all()
    whole = Ddpm(steps=7).draw(np.random.default_rng(seed), n)
    assert ((whole == whole.round()) & (whole >= 0) & (whole < 7)).all()


class Point(nn.Module):
    """Knows that every picture is its label, and says so in noise or velocity; without a label it knows nothing."""

    def __init__(self, flow: bool) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, z: Tensor, t: Tensor, labels: Tensor) -> Prediction:
        x, t = labels.view(-1, 1, 1, 1).float().expand_as(z), t.view(-1, 1, 1, 1)
        kept = Chain().kept.float()[(0 if self.flow else t.long())]
        return Prediction((z - x) / t if self.flow else (z - kept.sqrt() * x) / (1 - kept).sqrt(), {})


@pytest.mark.parametrize(("objective", "flow"), [(RectifiedFlow(), True), (Ddpm(), False)])
def test_samples_are_what_the_net_knows_and_guidance_overshoots(objective: Objective, flow: bool) -> None:
    net, condition, null, noise = (
        Point(flow),
        torch.tensor([1, 2]),
        torch.tensor([0, 0]),
        torch.Generator().manual_seed(0),
    )
    plain = objective.sample(net, condition, null, (2, 1, 2, 2), steps=20, generator=noise)
    torch.testing.assert_close(plain.mean((1, 2, 3)), torch.tensor([1.0, 2.0]), rtol=0, atol=1e-3)
    led = objective.sample(net, condition, null, (2, 1, 2, 2), steps=20, guidance=3.0, generator=noise)
    torch.testing.assert_close(led.mean((1, 2, 3)), torch.tensor([3.0, 6.0]), rtol=0, atol=1e-2)


@pytest.mark.parametrize("objective", BOTH)
def test_the_generator_decides_the_samples(objective: Any) -> None:
    given = {"condition": LABELS, "null": LABELS * 0, "shape": SHAPE, "steps": 3}
    a, b, c = (objective.sample(Net(), **given, generator=torch.Generator().manual_seed(i)) for i in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_flow_without_spread_is_refused() -> None:
    with pytest.raises(ValueError, match="std=0 must be above 0"):
        RectifiedFlow(std=0)


def test_a_flow_warns_of_the_times_of_ddpm() -> None:
    with pytest.warns(UserWarning, match=r"t=500 of a flow: its times are in \[0, 1\]"):
        RectifiedFlow().loss(Net(), X, LABELS, torch.tensor([0.0, 1, 2, 3, 4, 500]), NOISE)
