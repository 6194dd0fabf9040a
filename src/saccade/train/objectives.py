"""What a denoiser is taught: the noise under DDPM, the velocity along a rectified flow.

Ddpm            z = sqrt(abar_t) x + sqrt(1 - abar_t) n     loss = mean |eps - n|^2 + bound, in bits per dimension
RectifiedFlow   z = (1 - t) x + t n                         loss = mean |v - (n - x)|^2,  logit(t) ~ N(mean, std)
                for a model whose `noise_at` is 0           z = t x + (1 - t) n, v - (x - n): the same, turned round

The second half of a network of 2c channels is DDPM's variance, which the bound alone trains; without it there is no
bound. Its term at t = 0 differs from the released code's, see `runs.gaussian`. A flow discards that half. What a model
adds of its own (balance of experts and such) is added to the loss.

Sources: Ho et al. (2020), Nichol & Dhariwal (2021), as in DiT; Salimans & Ho (2022), velocity; Hang et al. (2023),
min-SNR weights; Liu et al. (2022), Esser et al. (2024).
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from saccade.core.checks import check_word
from saccade.runs.denoising import Condition, Predicts, ddpm, guided, rectified_flow, toward_noise
from saccade.runs.gaussian import Chain, Compat, check_compat, linear_betas, scaled_linear_betas
from saccade.train.checks import check_positive

Model = Callable[[Tensor, Tensor, Any], Any]
Shape = tuple[int, ...]
Schedule = Literal["linear", "scaled_linear"]
Times = Literal["logit-normal", "uniform"]
SCHEDULES: dict[str, Callable[..., Tensor]] = {"linear": linear_betas, "scaled_linear": scaled_linear_betas}


class Objective(Protocol):
    """A way to spoil pictures and to undo it. `model(x, t, condition)` returns `.out` and its own `.losses` by name."""

    def draw(self, rng: np.random.Generator, n: int) -> Float[Tensor, " n"]:
        """Times to train at."""
        ...

    def spread(self, n: int) -> Float[Tensor, " n"]:
        """Times to judge at: `n` even quantiles of those to train at."""
        ...

    def loss(
        self, model: Model, x: Float[Tensor, "b c *d"], condition: Any, t: Float[Tensor, " b"], noise: Tensor
    ) -> dict[str, Tensor]:
        """`loss`, to be minimised, and what it is made of; in single precision whatever the model runs in."""
        ...

    def sample(
        self,
        model: Model,
        condition: Condition,
        null: Condition,
        shape: Shape,
        *,
        steps: int,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b c *d"]:
        """Pictures of `shape` (b c ...), each under its row of `condition`; `null` is what guidance leads away from."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ddpm:
    """`steps`, `low`, `high`, `schedule`: of the betas, see `runs.gaussian`. `guided_channels`: those that guidance
    changes, None for all (the original DiT guides 3 of 4). `clip` bounds guesses of the picture in sampling.
    `predicts`: the noise n, or the velocity sqrt(abar) n - sqrt(1 - abar) x. `snr_limit`: see `snr_weight`; None
    weighs all steps alike. `weights`: of a model's own losses, 1 unless named. `compat`: "official" for the bound's
    last term as the released code has it, see `runs.gaussian`.
    """

    steps: int = 1000
    low: float = 1e-4
    high: float = 2e-2
    guided_channels: int | None = None
    clip: float | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    compat: Compat | None = None
    schedule: Schedule = "linear"
    predicts: Predicts = "noise"
    snr_limit: float | None = None

    def __post_init__(self) -> None:
        check_compat(self.compat)
        check_positive(snr_limit=self.snr_limit)
        check_word(SCHEDULES, schedule=self.schedule)
        check_word(get_args(Predicts), predicts=self.predicts)

    @cached_property
    def chain(self) -> Chain:
        """The steps that are undone."""
        betas = SCHEDULES[self.schedule](self.steps, self.low, self.high)
        return Chain(betas=betas, times=torch.arange(self.steps), compat=self.compat)

    def draw(self, rng: np.random.Generator, n: int) -> Float[Tensor, " n"]:
        return torch.from_numpy(rng.integers(self.steps, size=n)).float()

    def spread(self, n: int) -> Float[Tensor, " n"]:
        return (_quantiles(n) * self.steps).floor().float()

    def loss(
        self, model: Model, x: Float[Tensor, "b c *d"], condition: Any, t: Float[Tensor, " b"], noise: Tensor
    ) -> dict[str, Tensor]:
        k = t.long()
        z = self.chain.noised(x, noise, k)
        out, losses = model(z, t, condition)
        with torch.autocast(x.device.type, enabled=False):
            eps, v = out.float().split(x.shape[1], dim=1) if out.shape[1] > x.shape[1] else (out.float(), None)
            wanted = noise if self.predicts == "noise" else self.chain.velocity(x, noise, k)
            parts = {"mse": self._mean((eps - wanted).square(), k)}
            if v is not None:
                eps = eps if self.predicts == "noise" else self.chain.noise_of(z, eps, k)
                parts["bound"] = self.chain.bound(x, z, eps.detach(), v, k).mean()
            return total(parts, losses, self.weights)

    def snr_weight(self, k: Int[Tensor, " b"], limit: float) -> Float[Tensor, " b"]:
        """min(SNR, limit) / SNR of each step, SNR = abar / (1 - abar), 1 up to the limit; of velocities by SNR + 1."""
        kept = self.chain.kept.to(k.device)[k]
        snr = kept / (1 - kept)
        return (snr.clamp(max=limit) / (snr if self.predicts == "noise" else snr + 1)).float()

    def _mean(self, squares: Float[Tensor, "b c *d"], k: Int[Tensor, " b"]) -> Float[Tensor, ""]:
        if self.snr_limit is None:
            return squares.mean()
        return (self.snr_weight(k, self.snr_limit) * squares.flatten(1).mean(1)).mean()

    def sample(
        self,
        model: Model,
        condition: Condition,
        null: Condition,
        shape: Shape,
        *,
        steps: int = 250,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b c *d"]:
        predict = guided(model, condition, null, guidance, self.guided_channels)
        noise = _normal(shape, condition, generator)
        options: dict[str, Any] = {"chain": self.chain, "clip": self.clip, "predicts": self.predicts}
        return ddpm(predict, noise, steps=steps, generator=generator, **options)


@dataclass(frozen=True, kw_only=True)
class RectifiedFlow:
    """`times`: of training; `mean`, `std`: of their logits. `weights`: of a model's own losses, 1 unless named."""

    mean: float = 0.0
    std: float = 1.0
    weights: Mapping[str, float] = field(default_factory=dict)
    times: Times = "logit-normal"

    def __post_init__(self) -> None:
        check_positive(std=self.std)
        check_word(get_args(Times), times=self.times)

    def draw(self, rng: np.random.Generator, n: int) -> Float[Tensor, " n"]:
        if self.times == "uniform":
            return torch.from_numpy(rng.random(n)).float()
        return torch.from_numpy(rng.normal(self.mean, self.std, n)).float().sigmoid()

    def spread(self, n: int) -> Float[Tensor, " n"]:
        if self.times == "uniform":
            return _quantiles(n).float()
        return (self.mean + self.std * torch.special.ndtri(_quantiles(n))).sigmoid().float()

    def loss(
        self, model: Model, x: Float[Tensor, "b c *d"], condition: Any, t: Float[Tensor, " b"], noise: Tensor
    ) -> dict[str, Tensor]:
        if t.device.type == "cpu" and bool((t > 1).any()):  # elsewhere the check would wait
            warnings.warn(f"t={float(t.max()):g} of a flow: its times are in [0, 1]", stacklevel=2)
        share = t.view(-1, *[1] * (x.ndim - 1))
        out, losses = toward_noise(model)((1 - share) * x + share * noise, t, condition)
        with torch.autocast(x.device.type, enabled=False):
            velocity = out[:, : x.shape[1]].float()
            return total({"mse": (velocity - (noise - x)).square().mean()}, losses, self.weights)

    def sample(
        self,
        model: Model,
        condition: Condition,
        null: Condition,
        shape: Shape,
        *,
        steps: int = 50,
        guidance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b c *d"]:
        noise = _normal(shape, condition, generator)
        return rectified_flow(guided(toward_noise(model), condition, null, guidance), noise, steps=steps)


def total(parts: Mapping[str, Tensor], own: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """`loss`, the sum of `parts` and of the model's own losses times their weights; then all of them by name.

    Raises ValueError for a weight of no loss and for a loss named as a part.
    """
    for name in weights:
        if name not in own:
            raise ValueError(f"weights name '{name}', no loss of this model; it has {', '.join(own) or 'none'}")
    if clash := [name for name in own if name in (*parts, "loss")]:
        raise ValueError(f"the model's own loss '{clash[0]}' has the name of a part of the objective; rename it")
    loss = sum(parts.values()) + sum(weights.get(name, 1.0) * value.float() for name, value in own.items())
    return {"loss": loss, **parts, **own}  # type: ignore[dict-item]


def _quantiles(n: int) -> Tensor:
    """Middles of n even parts of [0, 1]."""
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def _normal(shape: Shape, condition: Tensor | Mapping[str, Tensor], generator: torch.Generator | None) -> Tensor:
    """Noise drawn where the generator lives, else on the CPU; then where the condition is."""
    known = condition if isinstance(condition, Tensor) else next(iter(condition.values()))
    device = "cpu" if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).to(known.device)
