"""What it takes to find the blocks of a mask, and how near they come to the pairs it allows, by number of tokens.

Masks: a disc that allows about a tenth of the pairs of a picture; CLEAR's disc and ball of radius 8, on a picture and a
video; windows of 16 x 16; and blocks of 128 drawn at random in the place of those SparseD finds. Text stands before
pictures of real size. Beside them what it takes to find such blocks (`ops.block_scores`, one head of 64), against one
dense call.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.masks import Mask
from saccade.core.places import Disc, Windows
from saccade.experiments import Row
from saccade.mechanisms.block_grid import BlockGrid
from saccade.metrics.stopwatch import in_turn, measure
from saccade.ops.block_cost import BlockCost
from saccade.ops.block_scores import block_scores
from saccade.ops.pattern import Pattern, pattern
from saccade.ops.pattern_choice import cheapest

BLOCK = 128  # tokens of a SparseD block
KEPT = 0.1  # share of them kept
DENSE = 2048  # queries of the dense call, beyond which its time is scaled up
SIZES = {  # tokens -> a picture and a video
    4096: (Layout.image_only((1, 64, 64)), Layout.image_only((4, 32, 32))),
    16384: (Layout.image_only((1, 128, 128)), Layout.image_only((16, 32, 32))),
    119056: (Layout.joint(text=256, grid=(1, 330, 360)), Layout.joint(text=256, grid=(33, 45, 80))),
    262656: (Layout.joint(text=512, grid=(1, 512, 512)), Layout.joint(text=512, grid=(64, 64, 64))),
}
Costs = tuple[BlockCost, ...]


@dataclass(frozen=True, kw_only=True)
class PatternCases:
    """What is measured: each mask at each number of tokens, and selectors that score `queries` of each block.

    Raises ValueError for a mask or number of tokens that is not known.
    """

    tokens: tuple[int, ...] = tuple(SIZES)
    masks: tuple[str, ...] = ("disc", "clear", "ball", "window", "sparsed")
    queries: int = 3
    rounds: int = 3

    def __post_init__(self) -> None:
        for name, chosen, known in (("tokens", self.tokens, SIZES), ("mask", self.masks, MASKS)):
            if unknown := [each for each in chosen if each not in known]:
                raise ValueError(f"{name}={unknown[0]!r} must be one of {', '.join(map(str, known))}")

    def cases(self, costs: Costs) -> dict[str, Callable[[], list[Row]]]:
        """By name, for kernels that take `costs` for their blocks."""
        patterns = {f"{mask} {n}": partial(pattern_row, mask, n, costs) for n in self.tokens for mask in self.masks}
        selectors = {f"selector {n}": partial(selector_row, n, self.queries, self.rounds) for n in self.tokens}
        return {**patterns, **selectors}


def pattern_row(kind: str, n: int, costs: Costs) -> list[Row]:
    """Seconds and memory of all that is done for a mask before its first call, and the blocks that come of it."""
    layout, mask = MASKS[kind](*SIZES[n])
    idle, start = measure(lambda: None).peak_bytes, time.process_time()
    found = measure(lambda: planned(mask, layout, costs))
    spent = time.process_time() - start
    made, density = found.result
    return [
        {
            "kind": "pattern", "mask": kind, "tokens": n, "density": density, "seconds": found.seconds,
            "cpu_seconds": spent,
            "extra_bytes": None if idle is None or found.peak_bytes is None else found.peak_bytes - idle,
            "computed": made.computed / density, "size": list(made.size), "order": repr(made.order),
            "blocks": made.kept, "mixed": made.mixed, "tiles": None if made.tiles is None else len(made.tiles),
        }
    ]  # fmt: skip


def planned(mask: Mask, layout: Layout, costs: Costs) -> tuple[Pattern, float]:
    """The mask bound and checked for queries without keys, its block size and order chosen, its blocks found."""
    bound = mask.bind(layout, layout)
    bound.empty_row()
    size, order = cheapest(bound, layout, layout, costs)
    return pattern(bound, layout, layout, size, order), bound.density()


def selector_row(n: int, queries: int, rounds: int) -> list[Row]:
    """Median seconds of block scores and of dense attention, which is timed on some queries and scaled up."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, n, 64, generator=generator) for _ in range(3))
    few, apart = q[:, :, :DENSE], [at * BLOCK >= n // 2 for at in range(-(-n // BLOCK))]
    scores = partial(block_scores, plain_call(q, k, v), BLOCK, apart, queries)
    with torch.inference_mode():
        seconds = in_turn({"dense": lambda: dense(few, k, v), "selector": scores}, rounds)
        idle, peak = measure(lambda: None).peak_bytes, measure(scores).peak_bytes
    whole, selector = (statistics.median(seconds[name]) for name in ("dense", "selector"))
    whole *= n / few.shape[2]
    shares = [part * few.shape[2] / n / all_ for part, all_ in zip(seconds["selector"], seconds["dense"], strict=True)]
    return [
        {
            "kind": "selector", "tokens": n, "queries": queries, "dense_seconds": whole, "seconds": selector,
            "share": statistics.median(shares), "share_low": min(shares), "share_high": max(shares),
            "extra_bytes": None if idle is None or peak is None else peak - idle,
        }
    ]  # fmt: skip


def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The dense call."""
    return scaled_dot_product_attention(q, k, v)


def _sparsed(picture: Layout, video: Layout) -> tuple[Layout, Mask]:
    blocks = -(-picture.n // BLOCK)
    drawn = torch.rand(1, 1, blocks, blocks, generator=torch.Generator().manual_seed(0)) < KEPT
    return picture, BlockGrid(drawn | torch.eye(blocks, dtype=torch.bool), BLOCK, picture.n)


def _wide(picture: Layout, video: Layout) -> tuple[Layout, Mask]:
    grid = picture.image.grid
    assert grid is not None
    return picture, Disc(0.19 * grid[1])


MASKS: dict[str, Callable[[Layout, Layout], tuple[Layout, Mask]]] = {
    "disc": _wide,
    "clear": lambda picture, video: (picture, Disc(8)),
    "ball": lambda picture, video: (video, Disc(8)),
    "window": lambda picture, video: (picture, Windows(16)),
    "sparsed": _sparsed,
}
