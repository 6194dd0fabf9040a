"""Codes of places whose similarity is a Gaussian of their distance: cos(E_i, E_j) = exp(-(i - j)^2 / (2 sigma^2)).

distance_table            exactly, by a factor of the matrix of wanted cosines
between, distance_code    the same for places between whole numbers
optimised_table           by descent from random numbers, as OAT's tables were made

Source: OAT (2024); the closed form and what lies between whole numbers are ours.
"""

from math import isfinite, sqrt

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional as F

RIDGE = 1e-12  # added to the diagonal: at sigma = 2 and 14 places the smallest eigenvalue is 2e-6


def gaussian_kernel(a: Shaped[Tensor, " n"], b: Shaped[Tensor, " m"], sigma: float) -> Float[Tensor, "n m"]:
    """Wanted cosines of places a and b, in double precision.

    Raises ValueError for a sigma that is not above 0.
    """
    if not (sigma > 0 and isfinite(sigma)):
        raise ValueError(f"sigma={sigma} must be a finite number above 0, in places")
    return (-(a.double()[:, None] - b.double()[None]).square() / (2 * sigma**2)).exp()


def distance_table(
    count: int, width: int, *, sigma: float = 2.0, norm: float | None = None, rotation: int | None = None
) -> Float[Tensor, "count width"]:
    """Codes of the places 0 .. count - 1, all of one length.

    norm       of a code; None: the root of width
    rotation   seed of a random rotation of the channels, which spreads a code over all of them; None: not turned
    Raises ValueError for more places than channels, and for no place.
    """
    if not 1 <= count <= width:
        raise ValueError(f"count={count} places must be at least 1 and no more than width={width} channels")
    found = F.pad(_factor(count, sigma), (0, width - count)) @ _rotation(width, rotation)
    return ((sqrt(width) if norm is None else norm) * found).float()


def between(places: Shaped[Tensor, " n"], count: int, *, sigma: float = 2.0) -> Float[Tensor, "n count"]:
    """Weights that make the codes of any places in [0, count - 1] of a table: G^-1 k(x), in double precision.

    k(x) are the wanted cosines of x with whole numbers, G those among them. At whole numbers one weight is 1.
    Raises ValueError as `distance_table` does, and for places outside.
    """
    at = torch.as_tensor(places).cpu()
    if len(at) and not (0 <= float(at.min()) and float(at.max()) <= count - 1):
        raise ValueError(f"places from {float(at.min())} to {float(at.max())} must lie in 0 to {count - 1}")
    return torch.cholesky_solve(gaussian_kernel(torch.arange(count), at, sigma), _factor(count, sigma)).mT


def distance_code(
    places: Shaped[Tensor, " n"],
    count: int,
    width: int,
    *,
    sigma: float = 2.0,
    norm: float | None = None,
    rotation: int | None = None,
) -> Float[Tensor, "n width"]:
    """Codes of any places in [0, count - 1]; at whole numbers those of `distance_table`, which has the options.

    Raises ValueError as `distance_table` and `between` do.
    """
    table = distance_table(count, width, sigma=sigma, norm=norm, rotation=rotation)
    return (between(places, count, sigma=sigma) @ table.double()).float()


def optimised_table(
    count: int, width: int, *, sigma: float = 2.0, steps: int = 10000, lr: float = 0.01, seed: int = 0
) -> Float[Tensor, "count width"]:
    """A table found by Adam from normal numbers, by `table_loss`.

    Raises ValueError as `gaussian_kernel` does, and for fewer than two places.
    """
    if count < 2:
        raise ValueError(f"count={count} must be at least 2: there is no distance to align")
    table = torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    optimiser = torch.optim.Adam([table], lr=lr)
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            table_loss(table, sigma).backward()
            optimiser.step()
    return table.detach()


def table_loss(table: Float[Tensor, "n width"], sigma: float = 2.0) -> Float[Tensor, ""]:
    """Squared errors of all cosines, and the variance of the lengths, over n (n - 1)."""
    places = torch.arange(len(table), device=table.device)
    unit, lengths = F.normalize(table, dim=-1), table.norm(dim=-1)
    wrong = (unit @ unit.mT - gaussian_kernel(places, places, sigma).to(table)).square().sum()
    return (wrong + (lengths - lengths.mean()).square().mean()) / (len(table) * (len(table) - 1))


def _factor(count: int, sigma: float) -> Float[Tensor, "count count"]:
    """L of L L^T, the wanted cosines of whole numbers."""
    whole = torch.arange(count, device="cpu")
    wanted = gaussian_kernel(whole, whole, sigma) + RIDGE * torch.eye(count, dtype=torch.float64, device="cpu")
    return torch.linalg.cholesky(wanted)


def _rotation(width: int, seed: int | None) -> Float[Tensor, "width width"]:
    if seed is None:
        return torch.eye(width, dtype=torch.float64, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(width, width, generator=generator, dtype=torch.float64, device="cpu")
    return torch.linalg.qr(noise).Q
