"""Sampling by a network that predicts noise or velocity: DDPM's ancestral steps, Euler along a rectified flow.

A `predict(z, t)` answers for a batch z (b c ...) at times t (b), which are what goes to the net: 0 .. 999 under DDPM,
[0, 1] under rectified flow. It may return 2c channels: the second half is DDPM's variance, unused by a flow.

Sources: Ho et al., DDPM (2020); Liu et al., rectified flow (2022); Ho & Salimans, classifier-free guidance (2022).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.runs.gaussian import Chain
from saccade.runs.inversion import sample_euler

Predict = Callable[[Tensor, Tensor], Tensor]
Predicts = Literal["noise", "velocity"]
Condition = TypeVar("Condition", Tensor, Mapping[str, Tensor])


@torch.no_grad()
def ddpm(
    predict: Predict,
    noise: Float[Tensor, "b c *d"],
    *,
    steps: int = 250,
    chain: Chain | None = None,
    clip: float | None = None,
    predicts: Predicts = "noise",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b c *d"]:
    """Ancestral sampling over `steps` evenly spaced steps of the chain; no noise is added at the last.

    `clip` bounds the guess of the clean picture; none by default. Without a learned variance it is that of
    q(x_{k-1} | x_k, x_0). The noise is drawn where `generator` lives, else on the CPU: the same on every device.
    """
    whole = (chain or Chain()).respaced(steps)
    z = noise
    for step in reversed(range(len(whole))):
        k = torch.full((len(z),), step, device=z.device)
        eps, v = _halves(predict(z, whole.times.to(z.device)[k].float()), z)
        eps = eps if predicts == "noise" else whole.noise_of(z, eps, k)
        clean = whole.clean(z, eps, k)
        clean = clean if clip is None else clean.clamp(-clip, clip)
        z, spread = whole.posterior_mean(clean, z, k), (0.5 * whole.log_variance(v, k)).exp().to(z.dtype)
        if step:
            z = z + spread.view(-1, *spread.shape[1:] or [1] * (z.ndim - 1)) * _normal(z, generator)
    return z


@torch.no_grad()
def rectified_flow(predict: Predict, noise: Float[Tensor, "b c *d"], *, steps: int = 50) -> Float[Tensor, "b c *d"]:
    """Euler's method in `steps` even steps from noise at t = 1 to the picture at t = 0.

    Raises ValueError for fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")

    precise = torch.promote_types(noise.dtype, torch.float32)

    def velocity(z: Tensor, t: float) -> Tensor:
        return _halves(predict(z, torch.full((len(z),), t, device=z.device, dtype=precise)), z)[0]

    return sample_euler(velocity, noise, [i / steps for i in range(steps, -1, -1)])


def guided(
    model: Callable[..., Any], condition: Condition, null: Condition, scale: float = 1.0, channels: int | None = None
) -> Predict:
    """Classifier-free guidance, u + scale (c - u), by one call of both halves; a scale of 1 calls for `condition` only.

    `model(z, t, condition)` answers with something that has `.out`; `null` is `condition` said of nothing, of the same
    shape. `channels`: only so many of the picture's are guided, and the others are the conditional ones (the
    original DiT guides 3 of 4); None guides all. A variance in further channels is never guided.
    """
    if scale == 1:
        return lambda z, t: model(z, t, condition).out
    both = _joined(condition, null)

    def predict(z: Tensor, t: Tensor) -> Tensor:
        end = z.shape[1] if channels is None else channels
        if not 0 < end <= z.shape[1]:
            raise ValueError(f"channels={channels} must be between 1 and {z.shape[1]}, or None to guide all")
        conditional, free = model(torch.cat((z, z)), torch.cat((t, t)), both).out.chunk(2)
        led = free[:, :end] + scale * (conditional[:, :end] - free[:, :end])
        return torch.cat((led, conditional[:, end:]), dim=1)

    return predict


def guided_in_turn(model: Callable[..., Any], conditions: Sequence[Condition], scales: Sequence[float]) -> Predict:
    """Guidance by conditions that say ever more: u_0 + sum_i scale_i (u_i - u_(i-1)), by one call of all.

    Two conditions are classifier-free guidance; (nothing, a picture, picture and words) has a scale for what the
    picture adds and one for what the words add to it.
    Raises ValueError unless there is one condition more than scales.
    """
    if len(conditions) != len(scales) + 1:
        raise ValueError(f"{len(scales)} scales lead between {len(scales) + 1} conditions; {len(conditions)} are given")
    parts = len(conditions)
    every = _joined(*conditions)

    def predict(z: Tensor, t: Tensor) -> Tensor:
        first, *more = model(torch.cat([z] * parts), torch.cat([t] * parts), every).out.chunk(parts)
        led = first
        for scale, before, after in zip(scales, (first, *more), more, strict=False):
            led = led + scale * (after - before)
        return led

    return predict


def toward_noise(model: Callable[..., Any]) -> Callable[..., Any]:
    """The model as a flow whose time 1 is noise; one that says `noise_at` = 0 is turned round."""
    if getattr(model, "noise_at", 1):
        return model

    def turned(z: Tensor, t: Tensor, condition: Any) -> Any:
        found = model(z, 1 - t, condition)
        return found._replace(out=-found.out)

    return turned


def _halves(out: Tensor, z: Tensor) -> tuple[Tensor, Tensor | None]:
    """The prediction, and the variance's v where there are twice the channels."""
    channels = z.shape[1]
    if out.shape[1] not in (channels, 2 * channels):
        raise ValueError(f"predict answers with {out.shape[1]} channels; {channels} or {2 * channels} are expected")
    return out[:, :channels], out[:, channels:] if out.shape[1] == 2 * channels else None


def _joined(*conditions: Any) -> Any:
    if isinstance(first := conditions[0], Tensor):
        return torch.cat(conditions)
    return {name: torch.cat([each[name] for each in conditions]) for name in first}


def _normal(z: Tensor, generator: torch.Generator | None) -> Tensor:
    device = "cpu" if generator is None else generator.device
    return torch.randn(z.shape, generator=generator, dtype=z.dtype, device=device).to(z.device)
