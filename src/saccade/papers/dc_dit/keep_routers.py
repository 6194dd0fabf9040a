"""Routers that say of every token how likely it is to be kept.

predictability  how badly a token is predicted from its 8 neighbours (DC-DiT, second version)
neighbours      how unlike it is to the mean of its 3x3 cells, by cosine (DC-DiT, first version)
sequence        how unlike it is to the token before it, by cosine (H-Net)

Sources: Haridas et al., DC-DiT (2026); Hwang et al., H-Net (2025).
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.nn.part import TokenPositions, sides, to_map
from saccade.nn.routing import Router, Routing, choose

GROUPS, BIAS = 8, -1.1  # a fresh router keeps with a probability of a quarter


class KeepRouter(Router):
    """Scores to a `Routing` over (drop, keep), its `probs` (1 - p, p); a tie is "drop".

    The first and the last token of every sequence are always kept. Runs in single precision at least.
    """

    def __init__(self, score: nn.Module) -> None:
        super().__init__()
        self.score = score

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Routing:
        p = in_single(self.score, single(x), place)
        p = p.masked_fill(ends(p, place.keep), 1.0)
        if place.keep is not None:
            p = p.masked_fill(~place.keep, 0.0)
        return choose(torch.stack((1 - p, p), dim=-1), 1)


class Predictability(nn.Module):
    """sigmoid of a score of z - conv(z), z a quarter as wide as the token.

    Raises ValueError for a width that the groups do not divide.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = width // 4
        if width % 4 or narrow % GROUPS:
            raise ValueError(f"width={width} must be a multiple of {4 * GROUPS}: a quarter of it is normed in {GROUPS}")
        self.proj = nn.Conv2d(width, narrow, 1)
        self.context = nn.Conv2d(narrow, narrow, 3, padding=1)
        self.scorer = nn.Sequential(
            nn.Conv2d(narrow, narrow, 3, padding=1), nn.GroupNorm(GROUPS, narrow), nn.SiLU(), nn.Conv2d(narrow, 1, 1)
        )
        nn.init.constant_(self.scorer[-1].bias, BIAS)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Float[Tensor, "b n"]:
        z = self.proj(to_map(x, sides(place, x.shape[1], "predictability")))
        return self.scorer(z - self.context(z)).flatten(1).sigmoid()


class NeighbourCosine(nn.Module):
    """(1 - q . mean of k) / 2, q and k of unit length, the mean learned from a uniform start."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = identity(width), identity(width)
        self.mean = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        nn.init.constant_(self.mean.weight, 1 / 9)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Float[Tensor, "b n"]:
        grid = sides(place, x.shape[1], "neighbours")
        q, k = F.normalize(self.query(x), dim=-1), F.normalize(self.key(x), dim=-1)
        around = self.mean(to_map(k, grid)).flatten(2).mT
        return ((1 - (q * around).sum(-1)) / 2).clamp(0, 1)


class SequenceCosine(nn.Module):
    """(1 - cos(q of the token before, k)) / 2; 1 at the first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = identity(width), identity(width)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> Float[Tensor, "b n"]:
        q, k = self.query(x[:, :-1]), self.key(x[:, 1:])
        return F.pad(((1 - F.cosine_similarity(q, k, dim=-1)) / 2).clamp(0, 1), (1, 0), value=1.0)


SCORES: dict[str, type[nn.Module]] = {
    "predictability": Predictability,
    "neighbours": NeighbourCosine,
    "sequence": SequenceCosine,
}


def keep_router(name: str, width: int) -> KeepRouter:
    """A router by the name of its scores.

    Raises ValueError for a name there is not.
    """
    if name not in SCORES:
        raise ValueError(f"router='{name}' is unknown; choose one of {', '.join(SCORES)}")
    return KeepRouter(SCORES[name](width))


def ends(p: Float[Tensor, "b n"], keep: Bool[Tensor, "b n"] | None = None) -> Bool[Tensor, "b n"]:
    """True at the first and at the last token of every row; rows fill their first places."""
    at = torch.arange(p.shape[1], device=p.device)
    last = p.shape[1] - 1 if keep is None else keep.sum(1, keepdim=True) - 1
    return ((at == 0) | (at == last)).expand(p.shape)


def identity(width: int) -> nn.Linear:
    """A linear layer without bias that gives what it gets, at first."""
    layer = nn.Linear(width, width, bias=False)
    nn.init.eye_(layer.weight)
    return layer


def single(x: Tensor) -> Tensor:
    """In float32, or in float64 where it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def in_single(module: nn.Module, x: Tensor, *more: Any) -> Tensor:
    """`module(x, *more)` with its weights in single precision at least, whatever autocast says."""
    weights = {name: single(weight) for name, weight in module.named_parameters()}
    with torch.autocast(x.device.type, enabled=False):
        return torch.func.functional_call(module, weights, (x, *more))
