"""The chain of Gaussian steps that DDPM undoes, and the variational bound on each of them.

    q(x_k | x_0) = N(sqrt(abar_k) x_0, 1 - abar_k),    abar_k = prod_{i <= k} (1 - beta_i)

beta            linear from 1e-4 to 2e-2 over 1000 steps
btilde          variance of q(x_{k-1} | x_k, x_0)
f = (v + 1)/2   learned-range variance: log var = f log beta + (1 - f) log btilde; btilde_0 is 0, btilde_1 stands in
The cost of bytes at k = 0, where the released code of DDPM, and of DiT and all that follow it, does otherwise:

normal CDF      exact here; there (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2
end bins        here they begin half-way to the next byte, at 1 - 1/255 = 0.99608; there at 0.999: the same for bytes,
                not for what lies between, such as latents

Both are right here by default; `compat="official"` restores theirs.

Sources: Ho et al., "Denoising diffusion probabilistic models" (2020); Nichol & Dhariwal, "Improved DDPM" (2021).
"""

from dataclasses import dataclass, field
from functools import cached_property
from math import log, pi
from typing import Literal, Self

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

Compat = Literal["official"]

LEVELS = 255  # a pixel is one of 256 bytes
OFFICIAL_END = 0.999  # where the first and the last byte begin in released code
LEAST = 1e-12  # probability of a byte, so that its logarithm stays finite


def linear_betas(steps: int = 1000, low: float = 1e-4, high: float = 2e-2) -> Float64[Tensor, " s"]:
    """Variances that grow evenly."""
    return torch.linspace(low, high, steps, dtype=torch.float64)


def scaled_linear_betas(steps: int = 1000, low: float = 8.5e-4, high: float = 1.2e-2) -> Float64[Tensor, " s"]:
    """Variances whose roots grow evenly, as Stable Diffusion has them."""
    return torch.linspace(low**0.5, high**0.5, steps, dtype=torch.float64) ** 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """`betas`: variance of every step; `times`: what the network receives at each, steps of the chain of training.

    `compat`: "official" for the bytes' cost as released code has it; see the module.
    Methods take `k` (b), the step of each row. Tables are float64, results have the dtype of the pictures.
    Raises ValueError for options out of range.
    """

    betas: Float64[Tensor, " s"] = field(default_factory=linear_betas)
    times: Int[Tensor, " s"] = field(default_factory=lambda: torch.arange(1000))
    compat: Compat | None = None

    def __post_init__(self) -> None:
        if len(self.betas) < 2 or not bool(((self.betas > 0) & (self.betas < 1)).all()):
            raise ValueError(f"betas of {len(self.betas)} steps must be two or more, all between 0 and 1")
        if len(self.times) != len(self.betas):
            raise ValueError(f"times has {len(self.times)} entries for {len(self.betas)} betas; give one for each")
        check_compat(self.compat)

    def __len__(self) -> int:
        return len(self.betas)

    @cached_property
    def kept(self) -> Float64[Tensor, " s"]:
        """abar: the share of the picture's variance that is left."""
        return (1 - self.betas).cumprod(0)

    @cached_property
    def kept_before(self) -> Float64[Tensor, " s"]:
        """abar one step earlier, 1 before the first."""
        return torch.cat((self.kept.new_ones(1), self.kept[:-1]))

    @cached_property
    def log_posterior(self) -> Float64[Tensor, " s"]:
        """log btilde, its first entry replaced by the second."""
        variance = self.betas * (1 - self.kept_before) / (1 - self.kept)
        return torch.cat((variance[1:2], variance[1:])).log()

    def respaced(self, steps: int) -> Self:
        """The chain of `steps` evenly spaced steps of this one, ends included, with the same abar there.

        Raises ValueError for a number of steps out of range.
        """
        if not 2 <= steps <= len(self):
            raise ValueError(f"steps={steps} must be between 2 and {len(self)}, the steps of the chain")
        chosen = torch.tensor([round(k * (len(self) - 1) / (steps - 1)) for k in range(steps)])
        kept = self.kept[chosen]
        before = torch.cat((kept.new_ones(1), kept[:-1]))
        return type(self)(betas=1 - kept / before, times=self.times[chosen], compat=self.compat)

    def noised(self, x: Float[Tensor, "b c *d"], noise: Float[Tensor, "b c *d"], k: Int[Tensor, " b"]) -> Tensor:
        """A draw of q(x_k | x_0)."""
        return _at(self.kept.sqrt(), k, x) * x + _at((1 - self.kept).sqrt(), k, x) * noise

    def clean(self, z: Float[Tensor, "b c *d"], eps: Float[Tensor, "b c *d"], k: Int[Tensor, " b"]) -> Tensor:
        """x_0 by the noise in z."""
        return (z - _at((1 - self.kept).sqrt(), k, z) * eps) / _at(self.kept.sqrt(), k, z)

    def velocity(self, x: Float[Tensor, "b c *d"], noise: Float[Tensor, "b c *d"], k: Int[Tensor, " b"]) -> Tensor:
        """sqrt(abar) noise - sqrt(1 - abar) x_0, which some models predict in place of the noise."""
        return _at(self.kept.sqrt(), k, x) * noise - _at((1 - self.kept).sqrt(), k, x) * x

    def noise_of(self, z: Float[Tensor, "b c *d"], velocity: Float[Tensor, "b c *d"], k: Int[Tensor, " b"]) -> Tensor:
        """The noise in z by the velocity there."""
        return _at(self.kept.sqrt(), k, z) * velocity + _at((1 - self.kept).sqrt(), k, z) * z

    def posterior_mean(self, x: Float[Tensor, "b c *d"], z: Float[Tensor, "b c *d"], k: Int[Tensor, " b"]) -> Tensor:
        """Mean of q(x_{k-1} | x_k = z, x_0 = x)."""
        clean = self.kept_before.sqrt() * self.betas / (1 - self.kept)
        noisy = (1 - self.betas).sqrt() * (1 - self.kept_before) / (1 - self.kept)
        return _at(clean, k, x) * x + _at(noisy, k, z) * z

    def log_variance(self, v: Float[Tensor, "b c *d"] | None, k: Int[Tensor, " b"]) -> Tensor:
        """log of the model's variance: between log btilde at v = -1 and log beta at v = 1; log btilde without v."""
        if v is None:
            return self.log_posterior.to(k.device)[k]
        low, high = _at(self.log_posterior, k, v), _at(self.betas.log(), k, v)
        share = (v + 1) / 2
        return share * high + (1 - share) * low

    def bound(
        self,
        x: Float[Tensor, "b c *d"],
        z: Float[Tensor, "b c *d"],
        eps: Float[Tensor, "b c *d"],
        v: Float[Tensor, "b c *d"],
        k: Int[Tensor, " b"],
    ) -> Float[Tensor, " b"]:
        """The step's term of the variational bound, bits per dimension: a divergence, and at k = 0 the bytes' cost."""
        mean, log_variance = self.posterior_mean(self.clean(z, eps, k), z, k), self.log_variance(v, k)
        true, true_variance = self.posterior_mean(x, z, k), _at(self.log_posterior, k, x)
        apart = divergence(true, true_variance, mean, log_variance).flatten(1).mean(1)
        cost = byte_nll(x, mean, log_variance, compat=self.compat).flatten(1).mean(1)
        return torch.where(k == 0, cost, apart) / log(2)


def divergence(
    mean1: Float[Tensor, "..."], log_variance1: Tensor, mean2: Float[Tensor, "..."], log_variance2: Tensor
) -> Float[Tensor, "..."]:
    """KL(N1 || N2) of each entry, in nats."""
    gap = log_variance2 - log_variance1
    return 0.5 * (gap - 1 + (-gap).exp() + (mean1 - mean2).square() * (-log_variance2).exp())


def byte_nll(
    x: Float[Tensor, "..."],
    mean: Float[Tensor, "..."],
    log_variance: Float[Tensor, "..."],
    *,
    compat: Compat | None = None,
) -> Float[Tensor, "..."]:
    """-log probability of the bytes `x`, scaled to [-1, 1], under a normal law, in nats.

    A byte owns the interval half-way to its neighbours; the first and the last own all that lies beyond. `compat`:
    "official" approximates the law, and takes for first and last only what lies beyond -0.999 and 0.999.
    """
    check_compat(compat)
    scale = (-0.5 * log_variance).exp()
    above, below = (scale * (x - mean + edge) for edge in (1 / LEVELS, -1 / LEVELS))
    if compat == "official":
        first, not_last, end = tanh_cdf(above), tanh_cdf(below), OFFICIAL_END
        middle, last = first - not_last, 1 - not_last
    else:
        first, last, end = torch.special.ndtr(above), torch.special.ndtr(-below), 1 - 1 / LEVELS
        middle = first - torch.special.ndtr(below)
    share = torch.where(x < -end, first, torch.where(x > end, last, middle))
    return -share.clamp(min=LEAST).log()


def tanh_cdf(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The normal distribution function as released code approximates it, at most 0.0002 off."""
    return 0.5 * (1 + torch.tanh((2 / pi) ** 0.5 * (x + 0.044715 * x**3)))


def check_compat(compat: str | None) -> None:
    """Raise ValueError for a form there is not."""
    if compat not in (None, "official"):
        raise ValueError(f"compat='{compat}' must be 'official' or None")


def _at(table: Float64[Tensor, " s"], k: Int[Tensor, " b"], like: Float[Tensor, "b c *d"]) -> Float[Tensor, "b ..."]:
    """Entries of a table, one a row, to be multiplied with `like`."""
    return table.to(k.device)[k].to(like.dtype).view(-1, *[1] * (like.ndim - 1))
