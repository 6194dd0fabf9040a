"""From a clean latent to the noise it is drawn from, along the field a flow model gives, and back.

All functions take the same `velocity(z, sigma)`, the derivative of z by sigma, and the same `sigmas`: the levels
in falling order, as a scheduler has them, N + 1 for N steps. Sampling starts at the first, inversion ends there.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import isfinite

from jaxtyping import Float
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
After = Callable[[Tensor, int], Tensor]


def sample_euler(
    velocity: Velocity, noise: Float[Tensor, "..."], sigmas: Sequence[float], *, after: After | None = None
) -> Float[Tensor, "..."]:
    """Euler's method from noise to a clean latent; N calls, each at the noisier end of its interval.

    after  called with the latents of each level that is reached and its number in `sigmas`; what it returns goes on
    """
    z = noise
    for reached, (high, low) in enumerate(pairwise(_falling(sigmas)), start=1):
        z = z + (low - high) * velocity(z, high)
        z = z if after is None else after(z, reached)
    return z


def invert_euler(velocity: Velocity, clean: Float[Tensor, "..."], sigmas: Sequence[float]) -> Float[Tensor, "..."]:
    """Euler's method the other way, each interval by the velocity at its cleaner end; N calls.

    Sampling takes the other end, so what comes back is off by the order of one step's length.
    """
    z = clean
    for low, high in pairwise(_falling(sigmas)[::-1]):
        z = z + (high - low) * velocity(z, low)
    return z


def inverted_path(
    velocity: Velocity, clean: Float[Tensor, "..."], sigmas: Sequence[float]
) -> tuple[Float[Tensor, "..."], ...]:
    """Latents at all levels, the noisiest first, by Euler's method the other way; N calls.

    Each interval goes by the velocity at its cleaner latent under the level of its noisier end, as Stable Flow and
    FreeFlux invert. The path is kept whole, since steering a second row needs the first one's latent at every level.
    """
    path = [clean]
    for low, high in pairwise(_falling(sigmas)[::-1]):
        path.append(path[-1] + (high - low) * velocity(path[-1], high))
    return tuple(path[::-1])


def invert_uni(velocity: Velocity, clean: Float[Tensor, "..."], sigmas: Sequence[float]) -> Float[Tensor, "..."]:
    """UniInv with Euler steps: each interval by the velocity at its noisier end, as sampling takes it; N + 1 calls.

    The point at the noisier end is not known yet. The velocity of the last call leads to a guess of it, the velocity at
    the guess replaces that step. Sampling gives `clean` back up to the square of a step's length, exactly where the
    velocity is the same everywhere. (Jiao et al. 2025, arXiv 2504.13109)
    """
    levels = _falling(sigmas)[::-1]
    z, v = clean, velocity(clean, levels[0])
    for low, high in pairwise(levels):
        v = velocity(z + (high - low) * v, high)
        z = z + (high - low) * v
    return z


def _falling(sigmas: Sequence[float]) -> tuple[float, ...]:
    """The levels as plain numbers, checked."""
    levels = tuple(map(float, sigmas))
    if len(levels) < 2:
        raise ValueError(f"sigmas={levels} has {len(levels)} levels; give at least two, one more than there are steps")
    if not all(map(isfinite, levels)) or any(high <= low for high, low in pairwise(levels)) or levels[-1] < 0:
        raise ValueError(f"sigmas={_brief(levels)} must fall strictly and end at zero or above, as a scheduler's do")
    return levels


def _brief(levels: tuple[float, ...]) -> str:
    shown = ", ".join(f"{sigma:g}" for sigma in levels[:6])
    return f"({shown}{', ...' if len(levels) > 6 else ''})"
