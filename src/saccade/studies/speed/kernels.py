"""Sparse kernels against the best dense one, by length, density, type and pattern.

Two patterns: key blocks chosen at random for each head, and a disc on a grid, exact at token level. Arms of a case run
in turn, round after round, in one process, so they share the machine's moods. efficiency = speedup x density, with the
share of pairs the mask allows and the faster of two dense kernels: 1 means not a pair was wasted.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch

from saccade.core.call import AttentionCall, plain_call
from saccade.core.errors import RefusedError
from saccade.core.layout import Layout
from saccade.core.masks import Lowered, Mask, Table, lower
from saccade.core.places import Disc
from saccade.experiments import Row
from saccade.metrics.stopwatch import in_turn
from saccade.ops import attend, flex, gather, native, prepare
from saccade.ops.chunked import chunked
from saccade.ops.native_cost import block_costs

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Arm = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class KernelCases:
    """What is measured: every length, pattern, type and density (share of pairs kept) with one another.

    block    tokens of a random pattern's blocks
    d        width of a head
    rounds   times every arm is run
    kernels  that are compared with the dense ones; flex compiles for minutes
    Raises ValueError for options out of range.
    """

    n: tuple[int, ...] = (4096, 16384)
    pattern: tuple[str, ...] = ("random", "disc")
    block: tuple[int, ...] = (128, 64)
    dtype: tuple[str, ...] = ("float32", "bfloat16")
    density: tuple[float, ...] = (0.25, 0.1)
    heads: int = 2
    d: int = 64
    rounds: int = 3
    kernels: tuple[str, ...] = ("native", "gather")
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, chosen, known in (
            ("kernel", self.kernels, WARM), ("dtype", self.dtype, TYPES), ("pattern", self.pattern, PATTERNS),
        ):  # fmt: skip
            if unknown := [each for each in chosen if each not in known]:
                raise ValueError(f"{name}='{unknown[0]}' must be one of {', '.join(known)}")
        if bad := [share for share in self.density if not 0 < share <= 1]:
            raise ValueError(f"density={bad[0]} must be in (0, 1]")
        if min(self.block) < 1:
            raise ValueError(f"block={min(self.block)} must be at least 1")
        if min(self.n) < max(self.block):
            raise ValueError(f"n={min(self.n)} must be at least one block of {max(self.block)}")
        if self.rounds < 1:
            raise ValueError(f"rounds={self.rounds} must be at least 1")

    def cases(self) -> dict[str, Callable[[], list[Row]]]:
        """What measures each case, by its name: a row for each arm, the dense ones without a speed-up."""
        kinds = [(kind, size) for kind in self.pattern for size in (self.block if kind == "random" else (None,))]
        return {
            _name(n, kind, size, dtype, share): partial(_case, self, n, kind, size, dtype, share)
            for n, (kind, size), dtype, share in product(self.n, kinds, self.dtype, self.density)
        }


def _name(n: int, kind: str, size: int | None, dtype: str, share: float) -> str:
    return f"{n} {kind} {size or ''} {dtype} {share}".replace("  ", " ")


@torch.inference_mode()
def _case(cases: KernelCases, n: int, kind: str, size: int | None, dtype: str, share: float) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    shape = (1, cases.heads, n, cases.d)
    q, k, v = (torch.randn(shape, generator=generator).to(cases.device, TYPES[dtype]) for _ in range(3))
    layout, mask = disc(n, share) if size is None else _random(n, cases.heads, share, size, generator)
    lowered = lower(mask, layout, layout, q.device)
    call = plain_call(q, k, v, layout=layout, mask=lowered)
    sparse, notes = _sparse(call, lowered, cases.kernels)
    dense = {"sdpa": lambda: attend(call.replace(mask=None), kernel="sdpa"), "chunked": lambda: chunked(q, k, v)}
    with flex.compiling_not_allowed():
        seconds = in_turn({**dense, **sparse}, cases.rounds, device=q.device)
    density = 1.0 if lowered is None else lowered.bound.density()
    about = {"n": n, "dtype": dtype, "pattern": kind, "block": size, "density": density}
    best = min(statistics.median(seconds[name]) for name in dense)
    rows = [about | {"area": 1.0} | _timing(name, seconds[name], None, density) for name in dense]
    rows += [about | {"area": _area(call, name)} | _timing(name, seconds[name], best, density) for name in sparse]
    return rows + [about | {"area": 1.0} | _refused(name, why) for name, why in notes.items()]


def _area(call: AttentionCall, kernel: str) -> float:
    """Share of the pairs that a kernel computes, in blocks of the size it has chosen."""
    costs = {"native": block_costs(call.q.dtype), "gather": gather.block_costs(call)}
    return gather.found_pattern(call, costs.get(kernel, gather.WIDE)).computed


def _sparse(
    call: AttentionCall, lowered: Lowered | None, chosen: tuple[str, ...]
) -> tuple[dict[str, Arm], dict[str, str]]:
    """The sparse kernels that take the call, ready to run, and why another does not."""
    if lowered is None:
        return {}, dict.fromkeys(chosen, "the mask lets every pair pass")
    arms: dict[str, Arm] = {}
    notes: dict[str, str] = {}
    for name in chosen:
        try:
            WARM[name](call)
            prepare(call, kernel=name)
            arms[name] = partial(attend, call, kernel=name)
        except (ValueError, native.BuildError, RefusedError) as refused:
            notes[name] = str(refused)
    return arms, notes


WARM: dict[str, Callable[[AttentionCall], None]] = {
    "native": lambda call: native.warm(),
    "gather": lambda call: None,
    "flex": flex.warm,
}


def _random(n: int, heads: int, share: float, size: int, generator: torch.Generator) -> tuple[Layout, Mask]:
    """For each head and block of queries, as many key blocks as the share asks for, chosen anew."""
    blocks = -(-n // size)
    kept = max(round(share * blocks), 1)
    chosen = torch.rand(1, heads, blocks, blocks, generator=generator).argsort(-1)[..., :kept]
    allow = torch.zeros(1, heads, blocks, blocks, dtype=torch.bool).scatter_(-1, chosen, True)
    label = torch.arange(n) // size
    return Layout.plain(n, "image"), Table(label, label, allow)


def disc(n: int, share: float) -> tuple[Layout, Mask]:
    """The disc on the squarest grid of n tokens whose share of pairs is nearest, the same for every head."""
    high = next(side for side in range(math.isqrt(n), 0, -1) if n % side == 0)
    layout = Layout.image_only((1, high, n // high))
    radii = [r / 2 for r in range(2, 2 * (high + n // high))]
    at = lambda r: Disc(r).bind(layout, layout).density()  # noqa: E731
    low, top = 0, len(radii) - 1
    while low < top:
        middle = (low + top) // 2
        low, top = (low, middle) if at(radii[middle]) >= share else (middle + 1, top)
    return layout, Disc(min(radii[max(low - 1, 0) : low + 1], key=lambda r: abs(at(r) - share)))


PATTERNS = ("random", "disc")


def _timing(kernel: str, seconds: list[float], dense: float | None, density: float) -> Row:
    """Milliseconds: median and half the distance between the quartiles; compared with the dense seconds."""
    median = statistics.median(seconds)
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else (median,) * 3
    speedup = None if dense is None else dense / median
    return {
        "kernel": kernel, "median_ms": 1e3 * median, "spread_ms": 1e3 * (high - low) / 2, "speedup": speedup,
        "efficiency": None if speedup is None else speedup * density, "refused": None,
    }  # fmt: skip


def _refused(kernel: str, why: str) -> Row:
    return dict.fromkeys(("median_ms", "spread_ms", "speedup", "efficiency")) | {"kernel": kernel, "refused": why}
