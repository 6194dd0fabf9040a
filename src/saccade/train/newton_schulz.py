"""Orthogonalise matrices: by Newton-Schulz iterations, which are only matrix products, or exactly.

    X = U / max(||U||_F, eps),   then `steps` times   A = X X^T,   X <- a X + (b A + c A^2) X

maps every singular value s of X by p(s) = a s + b s^3 + c s^5. The coefficients make p steep at zero and do not let it
converge: after five steps a value of more than a hundredth of the norm is between 0.68 and 1.14.

Source: Jordan et al., Muon (2024).
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

Method = Literal["newton_schulz", "svd"]
Coefficients = tuple[float, float, float]
QUINTIC: Coefficients = (3.4445, -4.7750, 2.0315)
STEPS, EPS = 5, 1e-7
MOST_STEPS = 100  # torch.optim.Muon refuses as many, too


def newton_schulz(
    matrices: Float[Tensor, "*b m n"],
    *,
    steps: int = STEPS,
    coefficients: Coefficients = QUINTIC,
    eps: float = EPS,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*b m n"]:
    """Each matrix with its singular vectors kept and its singular values brought near one; zero stays zero.

    `dtype` of the iterations and the result; None: bfloat16 on a GPU, single precision at least on a CPU.
    Raises ValueError for a number of steps out of range.
    """
    check_steps(steps)
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype or _usual_dtype(matrices)).contiguous()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    a, b, c = coefficients
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


def polar(matrices: Float[Tensor, "*b m n"]) -> Float[Tensor, "*b m n"]:
    """U V^T of each matrix U S V^T: the nearest matrix with orthonormal rows or columns, in single precision at least.

    Directions whose singular value is only rounding beside the greatest are left out: they have no
    sign that could be kept. So zero stays zero, and a matrix of rank r gives one of rank r.
    """
    exact = matrices.to(torch.promote_types(matrices.dtype, torch.float32))
    u, s, vt = torch.linalg.svd(exact, full_matrices=False)
    rounding = max(matrices.shape[-2:]) * torch.finfo(exact.dtype).eps
    there = s > (rounding * s[..., :1])
    return (u * there[..., None, :].to(u.dtype)) @ vt


def orthogonal(
    matrices: Float[Tensor, "*b m n"],
    *,
    method: Method = "newton_schulz",
    steps: int = STEPS,
    coefficients: Coefficients = QUINTIC,
    eps: float = EPS,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*b m n"]:
    """By either method; the exact one takes no steps.

    Raises ValueError for an unknown method or a number of steps out of range.
    """
    if check_method(method) == "svd":
        return polar(matrices)
    return newton_schulz(matrices, steps=steps, coefficients=coefficients, eps=eps, dtype=dtype)


def newton_schulz_flops(rows: int, columns: int, steps: int = STEPS) -> int:
    """Multiplications and additions of the products: 4 m^2 n + 2 m^3 a step, m the smaller side."""
    m, n = sorted((rows, columns))
    return steps * (4 * m * m * n + 2 * m**3)


def check_steps(steps: int) -> None:
    """Raise ValueError for a number of steps out of range."""
    if not 0 <= steps < MOST_STEPS:
        raise ValueError(f"ns_steps={steps} must be at least 0 and below {MOST_STEPS}; 5 are usual")


def check_method(method: Method) -> Method:
    """Raise ValueError for a method that there is not."""
    if method not in get_args(Method):
        raise ValueError(f"method='{method}' must be one of {', '.join(get_args(Method))}")
    return method


def _usual_dtype(x: Tensor) -> torch.dtype:
    return torch.bfloat16 if x.is_cuda else torch.promote_types(x.dtype, torch.float32)
