"""Which keys one new token of every row keeps, by its scores: the newest, the first, and some of the middle.

Rows may be of different lengths; a key beyond a row's length is never kept. All heads of a key head keep the same keys,
since they choose by the mean of their scores. A row no longer than what would be kept keeps everything.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saccade.core.checks import check_whole, check_word

Method = Literal["local", "top", "block", "strided", "random"]
METHODS: tuple[Method, ...] = get_args(Method)
Scores = Float[Tensor, "b h m"]
Lengths = Int[Tensor, " b"]
Kept = Bool[Tensor, "b h m"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How keys are chosen.

    method   local: none of the middle; top: the highest scores; block: whole blocks of `block` by their mean score;
             strided: the same by blocks that overlap, one every `stride`; random: any, all alike
    top      keys of the middle
    local    newest keys; blocks end at a multiple of their size, so that up to one block less one more are kept
    sink     first keys
    Raises ValueError for options out of range.
    """

    method: Method = "block"
    top: int = 1024
    local: int = 0
    block: int = 16
    stride: int = 8
    sink: int = 4

    def __post_init__(self) -> None:
        check_word(METHODS, method=self.method)
        check_whole(0, local=self.local, sink=self.sink)
        check_whole(1, block=self.block, stride=self.stride)
        if self.method == "local":
            check_whole(1, local=self.local)
        else:
            check_whole(1, top=self.top)
        if self.method in ("block", "strided") and self.top % self.block:
            raise ValueError(f"top={self.top} must be a multiple of block={self.block}")

    @property
    def budget(self) -> int:
        """Keys kept where blocks do not ask for more."""
        return self.sink + self.local + (0 if self.method == "local" else self.top)

    def kept(self, scores: Scores, lengths: Lengths, kv_heads: int, generator: torch.Generator | None = None) -> Kept:
        """Keys kept by every head. Scores are products before the softmax, scaled or not."""
        places = torch.arange(scores.shape[2], device=scores.device)
        there = places < lengths[:, None]
        local, active = self._local(lengths)
        newest = there & (places >= (lengths - local)[:, None])
        middle = there & (places >= self.sink) & ~newest
        by_group = scores.unflatten(1, (kv_heads, -1)).mean(2)
        chosen = self._chosen(by_group, middle, (lengths - local - self.sink).clamp(min=0), generator)
        kept = chosen | (there & ~middle)[:, None] | (there & ~active[:, None])[:, None]
        return kept.repeat_interleave(scores.shape[1] // kv_heads, dim=1)

    def _local(self, lengths: Lengths) -> tuple[Lengths, Bool[Tensor, " b"]]:
        """Newest keys of each row, and whether anything is left out there."""
        local = torch.full_like(lengths, self.local)
        if self.method == "block":
            middle = (lengths - self.sink - self.local).clamp(min=0)
            local = local + middle % self.block
            return local, lengths > ceil(self.budget / self.block) * self.block
        if self.method == "strided":
            return local, lengths - self.sink - self.local >= self.block
        return local, lengths > self.budget

    def _chosen(
        self, scores: Scores, middle: Bool[Tensor, "b m"], count: Lengths, generator: torch.Generator | None
    ) -> Kept:
        """Of the middle, by key head."""
        closed = ~middle[:, None]
        if self.method == "local":
            return torch.zeros_like(scores, dtype=torch.bool)
        if self.method == "top":
            return highest(scores.masked_fill(closed, -torch.inf), self.top)
        if self.method == "random":
            drawn = torch.rand(scores.shape, generator=generator, device=scores.device)
            return highest(drawn.masked_fill(closed, -torch.inf), self.top)
        return self._by_block(scores, closed, count)

    def _by_block(self, scores: Scores, closed: Bool[Tensor, "b 1 m"], count: Lengths) -> Kept:
        """Whole blocks; of overlapping ones up to twice as many, whose tokens are cut to `top`, the first ones kept."""
        step = self.block if self.method == "block" else self.stride
        inner = scores[..., self.sink :]
        if inner.shape[-1] < self.block:
            return torch.zeros_like(scores, dtype=torch.bool)
        windows = inner.unfold(-1, self.block, step)  # (b g w block)
        whole = (torch.arange(windows.shape[2], device=scores.device) * step + self.block) <= count[:, None]
        means = windows.mean(-1).masked_fill(~whole[:, None], -torch.inf)
        blocks = self.top // self.block * (1 if self.method == "block" else 2)
        best = highest(means, blocks)
        starts = torch.arange(windows.shape[2], device=scores.device) * step + self.sink
        inside = starts[:, None] + torch.arange(self.block, device=scores.device)
        marks = torch.zeros_like(scores).scatter_add(2, inside.flatten().expand(*best.shape[:2], -1), _each(best, self))
        kept = (marks > 0) & ~closed
        return kept if self.method == "block" else kept & (kept.cumsum(-1) <= self.top)


def highest(scores: Float[Tensor, "*b m"], count: int) -> Bool[Tensor, "*b m"]:
    """The `count` highest that are not -inf; of equals the first."""
    order = scores.argsort(dim=-1, descending=True, stable=True)[..., :count]
    found = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, True)
    return found & (scores > -torch.inf)


def _each(best: Bool[Tensor, "b g w"], selection: Selection) -> Float[Tensor, "b g n"]:
    """A mark for every key of every block."""
    return best.float().repeat_interleave(selection.block, dim=-1)
