"""Measure what blocks of each size cost the `native` kernel on this machine, for the choice of kernels and sizes."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.ops.block_cost import BlockCost
from saccade.ops.chunked import chunked
from saccade.ops.gather_schedule import GatherSchedule
from saccade.ops.native import TYPES, attend_to
from saccade.ops.native_cost import keep_costs, usual_costs
from saccade.ops.native_job import Tiles
from saccade.ops.pattern import Size

TOKENS, HEADS, D = 4096, 2, 64
READ = 0.25  # share of the key blocks that a query block reads
Arm = Callable[[], object]


def measure_costs(rounds: int = 7) -> dict[torch.dtype, tuple[BlockCost, ...]]:
    """Measure and keep the costs; the kernel must be warm. Takes some seconds."""
    found = {dtype: _measured(dtype, rounds) for dtype in TYPES}
    keep_costs(found)
    return found


def _measured(dtype: torch.dtype, rounds: int) -> tuple[BlockCost, ...]:
    """Medians over rounds in which every arm runs in turn."""
    q, k, v = drawn(TOKENS, dtype)
    arms: dict[object, Arm] = {
        "fused": lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v),
        "chunked": lambda: chunked(q, k, v),
    }
    sizes = [usual.size for usual in usual_costs(dtype)]
    arms |= {(size, mixed): arm(q, k, v, size, mixed) for size in sizes for mixed in (False, True)}
    with torch.inference_mode():
        spent = [{name: _seconds(run) for name, run in arms.items()} for _ in range(rounds + 1)][1:]
    times = {name: statistics.median(each[name] for each in spent) for name in arms}
    dense = min(times.pop("fused"), times.pop("chunked"))
    cost = {name: each / dense / READ for name, each in times.items()}
    return tuple(BlockCost(size, cost[size, False], cost[size, True]) for size in sizes)


def drawn(n: int, dtype: torch.dtype) -> tuple[Float[Tensor, "1 h n d"], ...]:
    """Queries, keys and values."""
    g = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, HEADS, n, D, generator=g).to(dtype) for _ in range(3))


def arm(
    q: Float[Tensor, "1 h n d"], k: Float[Tensor, "1 h n d"], v: Float[Tensor, "1 h n d"], size: Size,
    mixed: bool = False, share: float = READ,
) -> Arm:  # fmt: skip
    """Attention to a share of the blocks, chosen at random; mixed ones hide the upper triangle."""
    g = torch.Generator().manual_seed(0)
    blocks, keys = (q.shape[2] // side for side in size)
    kept = round(share * keys)
    chosen = torch.rand(HEADS, blocks, keys, generator=g).argsort(-1)[..., :kept]
    cols = (chosen + keys * torch.arange(HEADS)[:, None, None]).flatten()
    rows = torch.arange(HEADS * blocks)
    plan = GatherSchedule(
        rows=rows, cols=cols, which=torch.full_like(cols, int(mixed)), batches=torch.tensor([[len(rows), kept, kept]])
    )
    tiles = torch.stack((torch.ones(size), torch.ones(size).tril())).bool()
    operands = [x.reshape(-1, side, D) for x, side in zip((q, k, v), (size[0], size[1], size[1]), strict=True)]
    return partial(attend_to, *operands, None, Tiles.of(tiles), plan, D**-0.5)


def _seconds(run: Arm) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
