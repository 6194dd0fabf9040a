"""Proxy tokens tell everybody about the whole, windows see to the detail: two mixers, and the step that they share.

    y = pool(x);  y = y + attention(norm(y))          among proxies
    x = x + Z1 cross(norm(x), norm(y))                tokens ask the proxies
    x = x + windows(x);  x = x + Z2 shifted(norm(x))  neighbours, across the borders too
Z1 and Z2 are zero at first. As a mixer all of it is one step: the block's own modulation goes before, its gate after.

Source: Wang et al., PT-DiT / Qihoo-T2X (2024).
"""

from functools import reduce
from math import prod
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.nn.block import xavier_
from saccade.nn.cross_attention import CrossAttention
from saccade.nn.modulation import modulate, norm
from saccade.nn.part import MixerOutput, TokenPositions
from saccade.nn.registry import mixer
from saccade.papers.pt_dit.proxies import Choice, Order, Proxies
from saccade.papers.pt_dit.windows import Sizes, merge, partition, shift_mask

Inject = Literal["cross", "linear", "interpolate"]
Vectors = tuple[Float[Tensor, "b 1 d"], Float[Tensor, "b 1 d"], Float[Tensor, "b 1 d"]]


@mixer("window")
class WindowAttention(nn.Module):
    """Tokens look at those of their window; `shifted`: of windows half a window further, where the grid allows."""

    def __init__(self, width: int, heads: int, *, window: Sizes = (2, 2), shifted: bool = False) -> None:
        super().__init__()
        self.window, self.shifted = window, shifted
        self.attention = CrossAttention(width, heads)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        grid = full_grid(place, x.shape[1], "window")
        parts = partition(x, grid, self.window, shift=self.shifted)
        mask = None
        if self.shifted:
            mask = shift_mask(grid, self.window).to(x.device).repeat(len(x), 1, 1)[:, None]
        seen = self.attention(parts.flatten(0, 1), mask=mask).unflatten(0, parts.shape[:2])
        return MixerOutput(merge(seen, grid, self.window, shift=self.shifted), {})


class ProxyInjection(nn.Module):
    """What each token learns from the proxies; zero at first.

    inject   "cross": every token asks all proxies; "linear": each proxy, projected, goes to its own tokens;
             "interpolate": the same, smoothly between proxies
    Raises ValueError for an unknown injection, or one the proxies do not allow.
    """

    def __init__(self, width: int, heads: int, proxies: Proxies, *, inject: Inject = "cross") -> None:
        super().__init__()
        if inject not in get_args(Inject):
            raise ValueError(f"inject='{inject}' must be one of {', '.join(get_args(Inject))}")
        if inject != "cross" and proxies.order != "contiguous":
            raise ValueError(f"inject='{inject}' needs proxies with a place; order='{proxies.order}' leaves none")
        self.proxies, self.inject, self.norm = proxies, inject, norm(width)
        self.attention = CrossAttention(width, heads)
        self.cross = CrossAttention(width, heads) if inject == "cross" else None
        self.out = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"], grid: Sizes, vectors: Vectors | None = None) -> Float[Tensor, "b n d"]:
        """`vectors`: shift, scale and gate around the proxies' own attention."""
        y = self.proxies.pool(x, grid, training=self.training)
        if vectors is None:
            y = y + self.attention(self.norm(y))
        else:
            shift, scale, gate = vectors
            y = y + gate * self.attention(modulate(self.norm(y), shift, scale))
        return self.out(self._handed(self.norm(x), self.norm(y), grid))

    def _handed(
        self, x: Float[Tensor, "b n d"], y: Float[Tensor, "b proxies d"], grid: Sizes
    ) -> Float[Tensor, "b n d"]:
        if self.cross is not None:
            return self.cross(x, y)
        return self.proxies.spread(y, grid, "nearest" if self.inject == "linear" else "linear")


@mixer("proxy")
class ProxyMixer(nn.Module):
    """Proxies, windows and shifted windows in one mixer; with fresh weights it is plain window attention.

    window, inner, order, seed   see `Proxies`
    proxies   "mean", "first", "random", or "none" at all
    inject    see `ProxyInjection`
    local     windows; without them proxies are all there is, and not zero at first
    shifted   windows across the borders of the others
    Raises ValueError where no step is left.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        window: Sizes = (2, 2),
        proxies: Choice | Literal["none"] = "mean",
        inner: Sizes | None = None,
        order: Order = "contiguous",
        inject: Inject = "cross",
        local: bool = True,
        shifted: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if proxies == "none" and not local:
            raise ValueError("proxies='none' and local=False leave nothing; keep one of them")
        self.norm, self.injection, self.near, self.far = norm(width), None, None, None
        if proxies != "none":
            chosen = Proxies(window=window, inner=inner, choice=proxies, order=order, seed=seed)
            self.injection = ProxyInjection(width, heads, chosen, inject=inject)
        if local:
            self.near = WindowAttention(width, heads, window=window)
        if local and shifted:
            self.far = WindowAttention(width, heads, window=window, shifted=True)
            self.far_out = nn.Linear(width, width)
        self.reset()

    def reset(self) -> None:
        """Xavier-uniform, then zero where a branch begins closed."""
        xavier_(self)
        if self.injection is not None and self.near is not None:
            zero_(self.injection.out)
        if self.far is not None:
            zero_(self.far_out)

    def forward(self, x: Float[Tensor, "b n d"], place: TokenPositions) -> MixerOutput:
        grid, start, mixed = full_grid(place, x.shape[1], "proxy"), x, []
        if self.injection is not None:
            mixed.append(self.injection(x, grid))
            x = start + mixed[-1]
        if self.near is not None:
            mixed.append(self.near(x, place).out)
            x = x + mixed[-1]
        if self.far is not None:
            mixed.append(self.far_out(self.far(self.norm(x), place).out))
        return MixerOutput(reduce(torch.add, mixed), {})


def full_grid(place: TokenPositions, tokens: int, name: str) -> Sizes:
    """The grid of a place where every cell holds a token.

    Raises ValueError naming the part where there is none, or where tokens are missing or in order.
    """
    if prod(place.grid) != tokens or not place.grid:
        raise ValueError(f"{name} needs a grid of {tokens} tokens; place.grid={place.grid}")
    if place.keep is not None or place.causal:
        raise ValueError(f"{name} looks both ways on a full grid; leave place.keep and place.causal out")
    return place.grid


def zero_(layer: nn.Linear) -> None:
    """A layer that answers 0; in place."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
