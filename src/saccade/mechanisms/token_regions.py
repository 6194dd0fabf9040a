"""Regions of image tokens: seen in a map of a word, cleaned, moved, and sampled for a segmenter. All on (h w) grids."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

EPSILON = 1e-6


def kernel(side: int = 3, sigma: float = 0.5) -> Float[Tensor, "{side} {side}"]:
    """exp(-(u / 2 sigma)^2) on each axis, sum 1: a Gaussian of standard deviation sigma * sqrt(2).

    Raises ValueError for a side that is even or not positive, and for a sigma that is not positive.
    """
    if side < 1 or side % 2 == 0:
        raise ValueError(f"side={side} of a kernel must be odd, so that it has a middle; 1 smooths nothing")
    if not sigma > 0:
        raise ValueError(f"sigma={sigma} must be positive; side=1 smooths nothing")
    u = torch.arange(side) - side // 2
    line = torch.exp(-((u / (2 * sigma)) ** 2))
    whole = line[:, None] * line
    return whole / whole.sum()


def smooth(heat: Float[Tensor, "*s h w"], side: int = 3, sigma: float = 0.5) -> Float[Tensor, "*s h w"]:
    """Maps under `kernel`, mirrored at their edges.

    Raises ValueError for a kernel that is wider than a map.
    """
    weights, edge, flat = kernel(side, sigma).to(heat), side // 2, heat.reshape(-1, 1, *heat.shape[-2:])
    if edge >= min(heat.shape[-2:]):
        raise ValueError(f"side={side} of a kernel is too wide for a map of {tuple(heat.shape[-2:])}; make it narrower")
    return F.conv2d(F.pad(flat, (edge,) * 4, mode="reflect"), weights[None, None]).reshape(heat.shape)


def region(
    heat: Float[Tensor, "*s h w"], *, threshold: float = 0.3, side: int = 3, sigma: float = 0.5, components: int = 1
) -> Bool[Tensor, "*s h w"]:
    """Where a smoothed map, stretched to [0, 1], exceeds `threshold`: its largest connected parts.

    components  how many parts are kept, one for each object
    Raises ValueError for options out of range, and where nothing is left.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold} must be in [0, 1), a share of the map's highest value")
    found = largest(stretched(smooth(heat, side, sigma)) > threshold, components)
    if not found.flatten(-2).any(-1).all():
        raise ValueError(f"threshold={threshold} leaves no token of a map; lower it, or name another word")
    return found


def stretched(heat: Float[Tensor, "*s h w"]) -> Float[Tensor, "*s h w"]:
    """Maps stretched to [0, 1], each by itself."""
    low, high = heat.amin((-2, -1), keepdim=True), heat.amax((-2, -1), keepdim=True)
    return (heat - low) / (high - low + EPSILON)


def largest(mask: Bool[Tensor, "*s h w"], components: int = 1) -> Bool[Tensor, "*s h w"]:
    """The largest parts whose tokens touch, corners included.

    Raises ValueError for fewer than one part.
    """
    if components < 1:
        raise ValueError(f"components={components} must be at least 1, the number of objects")
    maps = mask.reshape(-1, *mask.shape[-2:]).cpu().numpy()
    return torch.from_numpy(np.stack([_largest(one, components) for one in maps])).reshape(mask.shape).to(mask.device)


def _largest(mask: np.ndarray, components: int) -> np.ndarray:
    from scipy.ndimage import label

    parts = np.asarray(label(mask, structure=np.ones((3, 3)))[0])  # type: ignore[index]
    sizes = np.bincount(parts.ravel())[1:]
    return np.isin(parts, 1 + np.argsort(-sizes, kind="stable")[:components])


def erode(mask: Bool[Tensor, "*s h w"], times: int = 1) -> Bool[Tensor, "*s h w"]:
    """Without the tokens that touch an open one; the edge of the map takes nothing away."""
    outside = (~mask).float().reshape(-1, 1, *mask.shape[-2:])
    for _ in range(times):
        outside = F.max_pool2d(outside, 3, stride=1, padding=1)
    return (outside == 0).reshape(mask.shape)


def spread_points(mask: Bool[Tensor, "h w"], count: int = 4, seed: int = 0) -> Int[Tensor, "p 2"]:
    """Tokens (row, column) of a region, each as far as can be from those before it: clicks for a segmenter.

    seed  of the first one
    Raises ValueError for a region of fewer tokens than points.
    """
    places = mask.nonzero().cpu()
    if not 0 < count <= len(places):
        raise ValueError(f"count={count} points are asked of a region of {len(places)} tokens; give 1 to as many")
    chosen = [int(torch.randint(len(places), (), generator=torch.Generator().manual_seed(seed)))]
    for _ in range(count - 1):
        near = torch.cdist(places.float(), places[chosen].float()).amin(1)
        chosen.append(int(near.argmax()))
    return places[chosen]


@dataclass(frozen=True, kw_only=True, eq=False)
class Moved:
    """A region and where it goes, over the whole grid.

    source, target  it, before and after
    vacated         tokens it leaves free; `rest` was never its own
    taken           the number of the token each token takes its content from: itself outside of the target
    """

    source: Bool[Tensor, "*t h w"]
    target: Bool[Tensor, "*t h w"]
    taken: Int[Tensor, " n"]

    @property
    def vacated(self) -> Bool[Tensor, "*t h w"]:
        return self.source & ~self.target

    @property
    def rest(self) -> Bool[Tensor, "*t h w"]:
        return ~(self.source | self.target)


def move(mask: Bool[Tensor, "*t h w"], by: tuple[int, int]) -> Moved:
    """A region moved by (rows, columns), in every frame.

    Raises ValueError where part of it would leave the grid.
    """
    down, across = by
    target = torch.zeros_like(mask)
    *frames, rows, columns = mask.nonzero(as_tuple=True)
    rows, columns = rows + down, columns + across
    height, width = mask.shape[-2:]
    if ((rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)).any():
        raise ValueError(f"by={by} (rows, columns) moves a region out of its grid of {height} x {width} tokens")
    target[(*frames, rows, columns)] = True
    own = torch.arange(mask.numel(), device=mask.device)
    return Moved(source=mask, target=target, taken=torch.where(target.flatten(), own - down * width - across, own))
