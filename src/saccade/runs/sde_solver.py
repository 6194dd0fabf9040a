"""SDE-DPM-Solver++(2M) in variance-preserving form, a step at a time; terminal levels of no signal included.

    lambda = log(alpha / sigma), h = lambda' - lambda, r = h_before / h
    D  = (1 + 1 / (2 r)) x0 - x0_before / (2 r)          x0 alone in the first step
    x' = (sigma' / sigma) e^-h x + alpha' (1 - e^-2h) D + sigma' sqrt(1 - e^-2h) e

At alpha = 0 lambda is -inf and this is x' = alpha' x0 + sigma' e; at sigma' = 0 it is x0.

Source: Lu et al., "DPM-Solver++" (2022); the stochastic form as DiTCtrl and CogVideoX sample by it.
"""

from math import exp, expm1, inf, log, sqrt

from jaxtyping import Float
from torch import Tensor


def sde_dpmpp_2m(
    x: Float[Tensor, "*d"],
    clean: Float[Tensor, "*d"],
    noise: Float[Tensor, "*d"] | None,
    *,
    alpha: float,
    alpha_next: float,
    before: Float[Tensor, "*d"] | None = None,
    alpha_before: float | None = None,
) -> Float[Tensor, "*d"]:
    """One step from the level `alpha` to the cleaner `alpha_next`; alpha is sqrt(abar), sigma is sqrt(1 - abar).

    clean   x0 as predicted at x
    noise   standard normal; None leaves it out, as the last step does
    before  x0 of the step before, at `alpha_before`; without it the step is of first order
    Raises ValueError for levels that do not rise within [0, 1], and for one of before and alpha_before alone.
    """
    levels = [a for a in (alpha_before, alpha, alpha_next) if a is not None]
    if not 0 <= levels[0] < levels[-1] <= 1 or levels != sorted(set(levels)):
        raise ValueError(f"levels={tuple(levels)} must rise strictly within [0, 1], from noise to data")
    if (before is None) != (alpha_before is None):
        raise ValueError("before and alpha_before belong together; give both, or neither in the first step")
    if alpha_next == 1:
        return clean
    h = _log_snr(alpha_next) - _log_snr(alpha)
    guess = clean
    if before is not None and alpha_before is not None:
        half = h / (_log_snr(alpha) - _log_snr(alpha_before)) / 2
        guess = (1 + half) * clean - half * before
    sigma, sigma_next = sqrt(1 - alpha**2), sqrt(1 - alpha_next**2)
    moved = sigma_next / sigma * exp(-h) * x - alpha_next * expm1(-2 * h) * guess
    return moved if noise is None else moved + sigma_next * sqrt(-expm1(-2 * h)) * noise


def _log_snr(alpha: float) -> float:
    return -inf if alpha == 0 else log(alpha / sqrt(1 - alpha**2))
