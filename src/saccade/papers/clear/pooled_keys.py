"""Append a coarse view of the image to the keys: each d x d patch of keys and values as one weighted sum.

kp[Y, X] = sum_{a, b < d} w[a, b] k[dY + a, dX + b], vp likewise with the same w. Pooling acts on the final keys, after
normalisation and rotation. Only image queries see the appended keys.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.core.call import AttentionCall
from saccade.core.layout import Grid, Layout, Segment
from saccade.core.mechanism import Appended, Mechanism
from saccade.core.site import Site
from saccade.core.state import Memory

POOLED = "pooled"


class PoolingWeights(nn.Module):
    """One trainable d x d tensor per site, shared by heads, channels, keys and values; at first the plain average."""

    def __init__(self, sites: Iterable[Site | str], size: int) -> None:
        super().__init__()
        names = [site.name if isinstance(site, Site) else site for site in sites]
        self.size = size
        self.names = tuple(names)
        self.of = nn.ParameterDict({_key(name): nn.Parameter(average(size)) for name in names})

    @property
    def by_site(self) -> dict[str, nn.Parameter]:
        """The weights by the names of their sites."""
        return {name: self.of[_key(name)] for name in self.names}

    def at(self, site: Site) -> Float[Tensor, "d d"]:
        """The weights of a site.

        Raises ValueError for a site without weights.
        """
        if _key(site.name) not in self.of:
            raise ValueError(
                f"no pooling weights for site '{site.name}'; there are some for {', '.join(self.of) or 'none'}"
            )
        return self.of[_key(site.name)]

    def __repr__(self) -> str:
        return f"PoolingWeights({len(self.of)} sites, size={self.size})"


@dataclass(frozen=True, kw_only=True)
class PooledKeys(Mechanism):
    """Append the image's keys and values pooled over `size` x `size` patches, frame by frame.

    weights   the user's trainable weights by site; None for plain averages
    Raises ValueError for options out of range.
    """

    size: int
    weights: PoolingWeights | None = None

    def __post_init__(self) -> None:
        if self.size < 2:
            raise ValueError(f"size={self.size} must be at least 2; leave pooling out for the keys as they are")
        if self.weights is not None and self.weights.size != self.size:
            raise ValueError(f"weights of size {self.weights.size} do not fit size={self.size}; make both the same")

    def appends(self, layout: Layout) -> tuple[Appended, ...]:
        grid = coarse_grid(layout, self.size)
        return (Appended(segment=Segment(POOLED, "extra", grid[0] * grid[1] * grid[2], grid)),)

    def keys(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        weight = average(self.size, call.k) if self.weights is None else self.weights.at(call.site).to(call.k)
        image = call.layout_k.image
        assert image.grid is not None
        span = call.layout_k.span(image.name)
        k, v = (pool(x[:, :, span], image.grid, weight) for x in (call.k, call.v))
        return call.append(self.appends(call.layout_k)[0].segment, k, v)


def pool(x: Float[Tensor, "b h n c"], grid: Grid, weight: Float[Tensor, "d d"]) -> Float[Tensor, "b h p c"]:
    """Weighted sums over d x d patches of a raster of tokens."""
    d, (t, h, w) = weight.shape[0], grid
    patches = x.unflatten(2, (t, h // d, d, w // d, d))
    return torch.einsum("bntyaxzc,az->bntyxc", patches, weight).flatten(2, 4)


def average(size: int, like: Tensor | None = None) -> Float[Tensor, "{size} {size}"]:
    """Equal weights that sum to one."""
    dtype, device = (None, None) if like is None else (like.dtype, like.device)
    return torch.full((size, size), 1 / size**2, dtype=dtype, device=device)


def coarse_grid(layout: Layout, size: int) -> Grid:
    """The grid of patches; ValueError where the image's sides are no multiples of `size`."""
    grid = layout.image.grid
    assert grid is not None
    t, h, w = grid
    if h % size or w % size:
        raise ValueError(f"the image grid {h} x {w} is not divisible by size={size}; resize the image or change size")
    return t, h // size, w // size


def _key(name: str) -> str:
    return name.replace(".", "/")  # a parameter's name may not hold dots
