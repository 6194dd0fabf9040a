"""Keep a few tokens of many, work on those, and hand every token the result of the kept one nearest to it.

b_natural -> kept(routing)       what the router keeps
rho       -> Budget.rho          share of the kept tokens that are dropped again, least likely first
b         -> drop_tail           what is kept after that
s         -> Chunk.index         where the kept tokens stood
N         -> Budget.ratio        tokens for each kept one that the ratio loss aims at

Sources: Hwang et al., H-Net (2025); Haridas et al., DC-DiT (2026).
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.nn.routing import Routing, straight_through


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How many tokens are worked on: `rho` in [0, 1) of the kept ones are dropped, all rows alike or each its own.

    Raises ValueError for options out of range.
    """

    rho: float | Float[Tensor, " b"] = 0.0
    ratio: float = 4.0

    def __post_init__(self) -> None:
        check_ratio(self.ratio)
        shares = torch.as_tensor(self.rho)
        if shares.ndim > 1:
            raise ValueError(f"rho of shape {tuple(shares.shape)} must be one number, or one for each row")
        if not bool(((shares >= 0) & (shares < 1)).all()):
            worst = float(shares.flatten()[(shares - 0.5).abs().argmax()])
            raise ValueError(f"rho={worst} must be in [0, 1); at 1 every token would be dropped")

    def shares(self, rows: int, device: torch.device) -> Float[Tensor, "rows 1"]:
        """`rho` of every row, in float32.

        Raises ValueError unless rho holds one number, or one for each row.
        """
        shares = torch.as_tensor(self.rho, dtype=torch.float32, device=device).reshape(-1, 1)
        if len(shares) not in (1, rows):
            raise ValueError(f"rho has {len(shares)} numbers for {rows} rows; give one, or one for each")
        return shares.expand(rows, 1)


def check_ratio(ratio: float) -> None:
    """Raise ValueError for a ratio at which nothing would be left out."""
    if not ratio > 1:
        raise ValueError(f"ratio={ratio} must be above 1, tokens for each one that is kept")


def kept(routing: Routing) -> Bool[Tensor, "b n"]:
    """What a `KeepRouter` keeps."""
    return routing.index[..., 0] == 1


class KeepRates(NamedTuple):
    """`kept`: r of the ratio loss; `mean_p`: pbar; `least`, `most`: tokens for each kept one in the extreme rows."""

    kept: float
    mean_p: float
    least: float
    most: float


def keep_rates(routing: Routing) -> KeepRates:
    """What to watch in training: at first next to nothing is kept, and the ratio loss must lift it."""
    counts, tokens = kept(routing).sum(1), routing.index.shape[1]
    r, p = (float(x.detach().float().mean()) for x in (counts / tokens, routing.probs[..., 1]))
    return KeepRates(r, p, tokens / int(counts.max()), tokens / int(counts.min()))


def drop_tail(keep: Bool[Tensor, "b n"], p: Float[Tensor, "b n"], shares: Float[Tensor, "b 1"]) -> Bool[Tensor, "b n"]:
    """`keep` without the floor(kept * share) least likely tokens of every row; of equals the first go first.

    The product is taken in float32: it agrees with exact arithmetic, where one in float64 can be too small.
    """
    counts = keep.sum(1, keepdim=True)
    order = p.masked_fill(~keep, torch.inf).argsort(dim=1, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, torch.arange(p.shape[1], device=p.device).expand_as(order))
    return keep & (rank >= (counts.float() * shares).long())


class Chunk(NamedTuple):
    """Where the kept tokens of every row stand, in order; rows with fewer than the fullest end in padding."""

    keep: Bool[Tensor, "b n"]
    index: Int[Tensor, "b m"]
    there: Bool[Tensor, "b m"]

    @classmethod
    def of(cls, keep: Bool[Tensor, "b n"]) -> Self:
        """Raises ValueError for a row that keeps nothing."""
        counts = keep.sum(1)
        if not bool(counts.all()):
            raise ValueError(f"row {int(counts.argmin())} keeps no token; every row needs one at least")
        index = (~keep).int().argsort(dim=1, stable=True)[:, : int(counts.max())]
        return cls(keep, index, torch.arange(index.shape[1], device=keep.device) < counts[:, None])

    def take(self, x: Float[Tensor, "b n *d"] | Int[Tensor, "b n"]) -> Tensor:
        """The kept tokens of x (b n d), or the kept values of x (b n)."""
        if x.ndim == 2:
            return x.gather(1, self.index)
        return x.gather(1, self.index[..., None].expand(-1, -1, x.shape[-1]))


def plug(plugged: Float[Tensor, "b n d"], weight: Float[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
    """`plugged` as it is; the gradient of `weight`, the probability of what the router chose, is that of a factor."""
    return plugged * straight_through(torch.ones_like(weight), weight)[..., None].to(plugged.dtype)


@dataclass(frozen=True, kw_only=True)
class RatioLoss:
    """N/(N-1) ((1 - r)(1 - pbar) + (N - 1) r pbar): r is the share of kept tokens, pbar the mean of p; 1 at 1/N.

    `group`: rows over which r and pbar are averaged before the loss is; None: all rows.
    """

    group: int | None = None

    def __call__(
        self,
        keep: Bool[Tensor, "b n"],
        p: Float[Tensor, "b n"],
        ratio: float,
        there: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, ""]:
        """`there`: tokens that are no padding. The gradient flows through p alone."""
        check_ratio(ratio)
        counted = torch.ones_like(keep) if there is None else there
        count = self._grouped(counted).sum(1)
        r = self._grouped(keep & counted).sum(1) / count
        mean = (self._grouped(p.float()) * self._grouped(counted)).sum(1) / count
        return ratio / (ratio - 1) * ((1 - r) * (1 - mean) + (ratio - 1) * r * mean).mean()

    def _grouped(self, x: Tensor) -> Tensor:
        group = self.group or len(x)
        if len(x) % group:
            raise ValueError(f"a batch of {len(x)} rows cannot be parted into groups of group={group}")
        return x.reshape(len(x) // group, -1)
