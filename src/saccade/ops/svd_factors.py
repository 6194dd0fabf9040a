"""Low-rank factors of a bias given as numbers (a learned table): truncated SVD, made once, with its error beside it.

b = U S V^T per head, phi_q = U_R sqrt(S_R), phi_k = V_R sqrt(S_R), with the smallest R that keeps `energy` of sum S^2.
Softmax ignores what is constant in a row, so row means are taken out first: in an all-positive table they hold nearly
all the energy and would hide everything else. `means` says what becomes of them.
"""

import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.biases import LowRank

Means = Literal["drop", "keep", "mix"]
SKETCH_FROM = 512  # from this size on, if max_rank is far below it, the SVD is sketched
OVERSAMPLE, PASSES = 8, 6
NOISE = 1e-24  # a squared norm below this share of the table's is rounding


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """bias ~ phi_q phi_k^T, and how well.

    ranks     columns in use per head; a head with fewer than the widest has zero columns
    energies  share of the squared norm kept per head
    rel_err   |b - phi_q phi_k^T| / |b|, Frobenius, of the part softmax can see (row means removed), worst head
    missing   heads that needed more columns than `max_rank` allows
    """

    phi_q: Float[Tensor, "#b #h n r"]
    phi_k: Float[Tensor, "#b #h m r"]
    ranks: tuple[int, ...]
    energies: tuple[float, ...]
    rel_err: float
    missing: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """Columns r of both factors."""
        return self.phi_q.shape[-1]

    @property
    def bias(self) -> LowRank:
        """The factors as the bias of an attention call."""
        return LowRank(self.phi_q, self.phi_k)


def exact_factors(bias: LowRank) -> Factors:
    """Factors from a formula, as `Factors`: nothing is lost."""
    heads = max(bias.phi_q.shape[1], bias.phi_k.shape[1])
    ranks, energies = (bias.rank,) * heads, (1.0,) * heads
    return Factors(phi_q=bias.phi_q, phi_k=bias.phi_k, ranks=ranks, energies=energies, rel_err=0.0)


def measured_factors(bias: LowRank, b: Float[Tensor, "*bh n m"]) -> Factors:
    """Factors found in any way, with what they lose of the table `b`."""
    table = b.detach().to(torch.float64)[(None,) * (4 - b.ndim)]
    residual = table - bias.phi_q.detach().double() @ bias.phi_k.detach().double().mT
    floor = NOISE * _norm2(table)
    energies = tuple((1 - _share(residual, table, floor)).flatten().tolist())
    rel_err = float(_share(_centred(residual), _centred(table), floor).max().sqrt())
    ranks = (bias.rank,) * len(energies)
    return Factors(phi_q=bias.phi_q, phi_k=bias.phi_k, ranks=ranks, energies=energies, rel_err=rel_err)


def svd_factors(
    b: Float[Tensor, "*bh n m"], *, energy: float = 0.995, max_rank: int | None = None, means: Means = "drop"
) -> Factors:
    """Factors of `b` (n m), (h n m) or (b h n m): per head the fewest columns that keep `energy` in (0, 1].

    means: "drop" removes row means (the same attention, if softmax sees these keys only), "keep" carries them in one
    more exact column, "mix" leaves them in the table, the rule of the FlashBias code.
    Warns, with the energy achieved, where `max_rank` is too small. Raises ValueError for nan, inf and bad shares.
    Cost: O(h n m min(n, m)), or O(h n m max_rank) where sketched.
    """
    check_table(b, energy, max_rank, means)
    table = b.detach().to(torch.float64)[(None,) * (4 - b.ndim)]
    mean = table.mean(dim=-1, keepdim=True)
    target = table if means == "mix" else table - mean
    floor = NOISE * _norm2(table)
    u, s, v = _decompose(target, max_rank)
    wanted = _wanted(s, energy * _norm2(target), floor)
    limit = u.shape[-1] if max_rank is None else max_rank
    phi_q, phi_k = _truncate(u, s, v, wanted.clamp(max=limit))
    residual = target - phi_q @ phi_k.mT
    if means == "keep":
        phi_q, phi_k = torch.cat((phi_q, mean), -1), torch.cat((phi_k, torch.ones_like(v[..., :1])), -1)
    energies = tuple((1 - _share(residual, target, floor)).flatten().tolist())
    missing = tuple((wanted > limit).flatten().nonzero().flatten().tolist())
    if missing:
        warnings.warn(_shortfall(missing, energies, energy, limit), stacklevel=2)
    return Factors(
        phi_q=_narrow(phi_q, b.dtype),
        phi_k=_narrow(phi_k, b.dtype),
        ranks=tuple(wanted.clamp(max=limit).flatten().tolist()),
        energies=energies,
        rel_err=float(_share(_centred(residual), _centred(table), floor).max().sqrt()),
        missing=missing,
    )


def check_table(b: Tensor, energy: float, max_rank: int | None, means: str = "drop") -> None:
    """Refuse what no factors can be made from.

    Raises ValueError for values that are not finite, or unknown options.
    """
    if not 0 < energy <= 1:
        raise ValueError(f"energy={energy} must be in (0, 1]: the share of the squared norm that the factors keep")
    if max_rank is not None and max_rank < 0:
        raise ValueError(f"max_rank={max_rank} must not be negative; None lets `energy` decide alone")
    if means not in get_args(Means):
        raise ValueError(f"means='{means}' must be one of {get_args(Means)}")
    bad = (~b.isfinite()).nonzero()
    if len(bad):
        raise ValueError(
            f"the bias has {len(bad)} entries that are nan or inf, the first at {tuple(bad[0].tolist())}; "
            "pass forbidden pairs as a separate mask, a bias must be finite"
        )


def _decompose(target: Tensor, max_rank: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """U (b h n r), S (b h r), V (b h m r); the leading ones only where a small max_rank allows a sketch."""
    n, m = target.shape[-2:]
    if max_rank is not None and min(n, m) >= SKETCH_FROM and 4 * (max_rank + OVERSAMPLE) <= min(n, m):
        basis = _range(target, max_rank + OVERSAMPLE)
        u, s, vh = torch.linalg.svd(basis.mT @ target, full_matrices=False)
        return basis @ u, s, vh.mT
    u, s, vh = torch.linalg.svd(target, full_matrices=False)
    return u, s, vh.mT


def _range(target: Tensor, columns: int) -> Tensor:
    """An orthonormal basis of the leading left singular vectors, by subspace iteration from a fixed seed."""
    start = torch.randn(target.shape[-1], columns, dtype=target.dtype, generator=torch.Generator().manual_seed(0))
    basis = torch.linalg.qr(target @ start.to(target.device)).Q
    for _ in range(PASSES):
        basis = torch.linalg.qr(target @ torch.linalg.qr(target.mT @ basis).Q).Q
    return basis


def _wanted(s: Tensor, goal: Tensor, floor: Tensor) -> Tensor:
    """(b h) the fewest leading S whose squares sum to `goal`; one past the end where all of them do not."""
    kept = s.square().cumsum(-1)
    enough = kept >= (goal * (1 - 1e-12))[..., None]
    return torch.where(goal <= floor, 0, (~enough).sum(-1) + 1)


def _truncate(u: Tensor, s: Tensor, v: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(S) on both sides, columns past each head's rank zero, as wide as the widest head."""
    width = int(ranks.max())
    in_use = torch.arange(width, device=s.device) < ranks[..., None]
    root = (s[..., :width].sqrt() * in_use)[..., None, :]
    return u[..., :width] * root, v[..., :width] * root


def _norm2(x: Tensor) -> Tensor:
    return x.square().sum(dim=(-2, -1))


def _share(part: Tensor, of: Tensor, floor: Tensor) -> Tensor:
    """|part|^2 / |of|^2, zero where `of` is rounding."""
    return torch.where(_norm2(of) <= floor, 0.0, _norm2(part) / _norm2(of).clamp(min=torch.finfo(of.dtype).tiny))


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(dim=-1, keepdim=True)


def _narrow(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if dtype == torch.float64 else x.to(torch.float32)


def _shortfall(heads: tuple[int, ...], energies: tuple[float, ...], energy: float, limit: int) -> str:
    worst = min(heads, key=lambda h: energies[h])
    return (
        f"max_rank={limit} keeps less than energy={energy} in heads {list(heads)}; the worst, head {worst}, "
        f"keeps {energies[worst]:.4f}: raise max_rank, or keep these dense"
    )
