"""Proxy tokens: a few that stand for all tokens of a window.

Source: Wang et al., PT-DiT / Qihoo-T2X (2024).
"""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from saccade.papers.pt_dit.windows import Sizes, merge, partition, windows_of

Choice = Literal["mean", "first", "random"]
Order = Literal["contiguous", "strided"]


@dataclass(frozen=True, kw_only=True)
class Proxies:
    """Which tokens a proxy stands for, and how it is made of them.

    window   its sides, in tokens: (h, w), or (t, h, w) for videos
    inner    sides of the parts of a window that get a proxy each; None: the whole window; time is never split
    choice   their mean, the first of them, or one drawn anew at each call
    order    "contiguous" parts of a window, or every so many tokens ("strided", as in the released code)
    seed     of the draws in evaluation; in training they follow torch's own generator
    Raises ValueError for options out of range.
    """

    window: Sizes = (2, 2)
    inner: Sizes | None = None
    choice: Choice = "mean"
    order: Order = "contiguous"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, words in (("choice", Choice), ("order", Order)):
            if getattr(self, name) not in get_args(words):
                raise ValueError(f"{name}='{getattr(self, name)}' must be one of {', '.join(get_args(words))}")
        try:
            counts = self.counts
        except ValueError as error:
            raise ValueError(f"inner={self.inner} does not fit into window={self.window}: {error}") from error
        if len(counts) == 3 and counts[0] > 1:
            raise ValueError(f"inner={self.inner} splits time, which stays whole; begin it with {self.window[0]}")

    @property
    def counts(self) -> Sizes:
        """Proxies of a window along each axis."""
        return windows_of(self.window, self.inner or self.window)

    def members(self, x: Float[Tensor, "b n d"], grid: Sizes) -> Float[Tensor, "b proxies q d"]:
        """The tokens that each proxy stands for; proxies by window, row-major."""
        windows = partition(x, grid, self.window)
        inside = windows.flatten(0, 1)
        if self.order == "contiguous":
            parts = partition(inside, self.window, self.inner or self.window)
        else:
            parts = partition(inside, self.window, self.counts).transpose(1, 2)
        return parts.unflatten(0, windows.shape[:2]).flatten(1, 2)

    def pool(self, x: Float[Tensor, "b n d"], grid: Sizes, *, training: bool = False) -> Float[Tensor, "b proxies d"]:
        """One token for each part. Random ones are the same for all rows, so for both halves of a guided batch."""
        members = self.members(x, grid)
        if self.choice == "mean":
            return members.mean(2)
        if self.choice == "first":
            return members[:, :, 0]
        proxies, inside = members.shape[1:3]
        drawn = torch.Generator().manual_seed(self.seed) if not training else None
        chosen = torch.randint(inside, (proxies,), generator=drawn, device="cpu").to(x.device)
        return members[:, torch.arange(proxies, device=x.device), chosen]

    def spread(
        self, y: Float[Tensor, "b proxies d"], grid: Sizes, mode: Literal["nearest", "linear"]
    ) -> Float[Tensor, "b n d"]:
        """Proxies back on the tokens' grid, each repeated over its part or interpolated between their centres.

        Raises ValueError for strided parts.
        """
        if self.order != "contiguous":
            raise ValueError(f"order='{self.order}' has no places between which to interpolate; use 'contiguous'")
        windows = windows_of(grid, self.window)
        coarse = tuple(a * b for a, b in zip(windows, self.counts, strict=True))
        cells = merge(y.unflatten(1, (prod(windows), -1)), coarse, self.counts).mT.unflatten(-1, coarse)
        smooth = "bilinear" if len(grid) == 2 else "trilinear"
        return F.interpolate(cells, grid, mode=smooth if mode == "linear" else mode).flatten(2).mT


def mixing_pairs(grid: Sizes, window: Sizes, *, proxies: int = 1, windows: int = 2, text: int = 0) -> int:
    """Pairs of query and key that one block's attentions touch; full attention touches n squared.

    Proxies among themselves, tokens on proxies, tokens in `windows` partitions, tokens on `text` tokens. `proxies`: of
    each window, 0 without them. Masks of shifted windows spare nothing here.
    """
    tokens, all_proxies = prod(grid), prod(windows_of(grid, window)) * proxies
    return all_proxies**2 + tokens * (all_proxies + windows * prod(window) + text)


def mixing_macs(grid: Sizes, window: Sizes, width: int, **parts: int) -> int:
    """Multiply-adds of the products with k and v that `mixing_pairs` counts; projections are not among them."""
    return 2 * width * mixing_pairs(grid, window, **parts)
