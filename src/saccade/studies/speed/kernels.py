"""Sparse kernels against the best dense one, by length, density, type and pattern.

Two patterns: key blocks of 128 chosen at random for each head, and a disc on a grid, exact at token level. Arms of a
case run in turn, round after round, in one process, so they share the machine's moods. efficiency = speedup x density,
with the share of pairs the mask allows and the faster of two dense kernels: 1 means not a pair was wasted.
"""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.errors import RefusedError
from saccade.core.layout import Layout
from saccade.core.masks import Lowered, Mask, Table, lower
from saccade.core.places import Disc
from saccade.metrics.stopwatch import in_turn
from saccade.ops import attend, flex, gather, native, prepare

BLOCK = 128  # tokens of a random pattern's blocks
CHUNK = 256  # queries of the written-out dense baseline taken at once
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Arm = Callable[[], object]
Progress = Callable[[int, int, str], None]
Say = Callable[[str], None]  # what is done now


@dataclass(frozen=True, kw_only=True)
class KernelCases:
    """What is measured: every length, pattern, type and density (share of pairs kept) with one another.

    d        width of a head
    rounds   times every arm is run
    kernels  that are compared with the dense ones; flex compiles for minutes
    Raises ValueError for options out of range.
    """

    n: tuple[int, ...] = (4096, 16384)
    pattern: tuple[str, ...] = ("random", "disc")
    dtype: tuple[str, ...] = ("float32", "bfloat16")
    density: tuple[float, ...] = (0.5, 0.25, 0.1)
    heads: int = 2
    d: int = 64
    rounds: int = 7
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
        if min(self.n) < BLOCK:
            raise ValueError(f"n={min(self.n)} must be at least one block of {BLOCK}")
        if self.rounds < 1:
            raise ValueError(f"rounds={self.rounds} must be at least 1")

    def measured(self, progress: Progress) -> list["Case"]:
        """Every case, one after the other."""
        grid = list(product(self.n, self.pattern, self.dtype, self.density))
        with torch.inference_mode():
            return [_case(self, *case, _saying(progress, done, len(grid))) for done, case in enumerate(grid)]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Milliseconds of one kernel on one case: median and half the distance between the quartiles."""

    kernel: str
    median_ms: float
    spread_ms: float
    speedup: float | None = None
    efficiency: float | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is attended: lengths, pattern, type; `density` of allowed pairs, `area` of computed blocks."""

    n: int
    heads: int
    d: int
    dtype: str
    pattern: str
    density: float
    area: float
    order: str
    dense: tuple[Timing, ...]
    sparse: tuple[Timing, ...]
    notes: tuple[str, ...]


def _saying(progress: Progress, done: int, total: int) -> Say:
    return lambda what: progress(done, total, what)


def _case(cases: KernelCases, n: int, kind: str, dtype: str, share: float, say: Say) -> Case:
    say(f"{n} {kind} {share} {dtype}")
    generator = torch.Generator().manual_seed(0)
    shape = (1, cases.heads, n, cases.d)
    q, k, v = (torch.randn(shape, generator=generator).to(cases.device, TYPES[dtype]) for _ in range(3))
    layout, mask = PATTERNS[kind](n, cases.heads, share, generator)
    lowered = lower(mask, layout, layout, q.device)
    call = plain_call(q, k, v, layout=layout, mask=lowered)
    sparse, notes = _sparse(call, lowered, cases.kernels, say)
    dense = {"sdpa": lambda: attend(call.replace(mask=None), kernel="sdpa"), "chunked": lambda: chunked(q, k, v)}
    with flex.compiling_not_allowed():
        seconds = in_turn({**dense, **sparse}, cases.rounds, device=q.device)
    times = {name: [1e3 * each for each in spent] for name, spent in seconds.items()}
    allowed = 1.0 if lowered is None else lowered.bound.density()
    best = min(statistics.median(times[name]) for name in dense)
    found = gather.found_pattern(call) if lowered is not None else None
    return Case(
        n=n, heads=cases.heads, d=cases.d, dtype=dtype, pattern=kind, density=allowed, notes=tuple(notes),
        area=1.0 if found is None else found.area, order="" if found is None else repr(found.order),
        dense=tuple(_timing(name, times[name]) for name in dense),
        sparse=tuple(_timing(name, times[name], best, allowed) for name in sparse),
    )  # fmt: skip


def _sparse(
    call: AttentionCall, lowered: Lowered | None, chosen: tuple[str, ...], say: Say
) -> tuple[dict[str, Arm], list[str]]:
    """The sparse kernels that take the call, ready to run, and why another does not."""
    if lowered is None:
        return {}, ["the mask lets every pair pass"]
    arms: dict[str, Arm] = {}
    notes: list[str] = []
    for name in chosen:
        say(f"preparing {name} for {call.q.shape[2]}")
        try:
            WARM[name](call)
            prepare(call, kernel=name)
            arms[name] = partial(attend, call, kernel=name)
        except (ValueError, native.BuildError, RefusedError) as refused:
            notes.append(f"{name}: {refused}")
    return arms, notes


WARM: dict[str, Callable[[AttentionCall], None]] = {
    "native": lambda call: native.warm(),
    "gather": lambda call: None,
    "flex": flex.warm,
}


def _random(n: int, heads: int, share: float, generator: torch.Generator) -> tuple[Layout, Mask]:
    """For each head and block of queries, as many key blocks as the share asks for, chosen anew."""
    blocks = -(-n // BLOCK)
    kept = max(round(share * blocks), 1)
    chosen = torch.rand(1, heads, blocks, blocks, generator=generator).argsort(-1)[..., :kept]
    allow = torch.zeros(1, heads, blocks, blocks, dtype=torch.bool).scatter_(-1, chosen, True)
    label = torch.arange(n) // BLOCK
    return Layout.plain(n, "image"), Table(label, label, allow)


def disc(n: int, heads: int, share: float, generator: torch.Generator) -> tuple[Layout, Mask]:
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


PATTERNS: dict[str, Callable[[int, int, float, torch.Generator], tuple[Layout, Mask]]] = {
    "random": _random,
    "disc": disc,
}


def chunked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same attention by two products and a softmax, a few queries at a time: where that beats the fused kernel."""
    out = torch.empty_like(q)
    scores = q.new_empty(*q.shape[:2], CHUNK, k.shape[2])
    for start in range(0, q.shape[2], CHUNK):
        rows = q[:, :, start : start + CHUNK] * q.shape[-1] ** -0.5
        room = scores[:, :, : rows.shape[2]]
        torch.softmax(torch.matmul(rows, k.mT, out=room), -1, out=room)
        out[:, :, start : start + CHUNK] = room @ v
    return out


def _timing(kernel: str, times: list[float], dense: float | None = None, density: float = 1.0) -> Timing:
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else (median,) * 3
    speedup = None if dense is None else dense / median
    return Timing(
        kernel=kernel, median_ms=median, spread_ms=(high - low) / 2, speedup=speedup,
        efficiency=None if speedup is None else speedup * density,
    )  # fmt: skip
