"""`saccade bench kernels`: sparse kernels against the best dense one, by length, density, type and pattern.

Two patterns: key blocks of 128 drawn at random for each head, and a disc on a grid, exact at token level. All arms of a
row run in turn, round after round, in one process, so they share the machine's moods. efficiency = speedup x density,
with the share of pairs the mask allows and the faster of two dense kernels: 1 means not a pair was wasted.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table as Grid
from torch import Tensor

from saccade.cli.printing import console
from saccade.core.call import AttentionCall, plain_call
from saccade.core.errors import RefusedError
from saccade.core.layout import Layout
from saccade.core.masks import Lowered, Mask, Table, lower
from saccade.core.places import Disc
from saccade.metrics.machine import device_name, versions
from saccade.ops import attend, flex, gather, native, prepare
from saccade.ui.progress import ProgressCallback, progress_bar

BLOCK = 128  # tokens of a random pattern's blocks
CHUNK = 256  # queries of the written-out dense baseline taken at once
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Work = Callable[[], object]


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


def kernels(
    out: Annotated[Path | None, typer.Option("--json", help="write the figures to this file")] = None,
    n: Annotated[list[int] | None, typer.Option(help="tokens; may be repeated [4096 16384]")] = None,
    density: Annotated[list[float] | None, typer.Option(help="shares of pairs kept [0.5 0.25 0.1]")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32, bfloat16, float16 [the first two]")] = None,
    pattern: Annotated[list[str] | None, typer.Option(help="random, disc [both]")] = None,
    heads: Annotated[int, typer.Option(help="attention heads")] = 2,
    d: Annotated[int, typer.Option(help="width of a head")] = 64,
    rounds: Annotated[int, typer.Option(help="times every arm is run")] = 7,
    threads: Annotated[int | None, typer.Option(help="CPU threads; as many as torch takes without it")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    kernel: Annotated[
        list[str] | None, typer.Option(help="may be repeated; flex compiles for minutes [native gather]")
    ] = None,
) -> None:
    """Time the sparse kernels against the best dense one."""
    torch.set_num_threads(threads or torch.get_num_threads())
    grid = [(size, kind, share, name) for size in n or (4096, 16384) for kind in pattern or ("random", "disc")
            for name in dtype or ("float32", "bfloat16") for share in density or (0.5, 0.25, 0.1)]  # fmt: skip
    chosen = tuple(kernel or ("native", "gather"))
    _check(grid, rounds, chosen)
    with progress_bar() as progress, torch.inference_mode():
        cases = [
            _case(*at, heads, d, rounds, device, chosen, _part(progress, i, len(grid))) for i, at in enumerate(grid)
        ]
    _show(cases)
    if out is not None:
        out.write_text(json.dumps(_record(cases, device), indent=2) + "\n")


def _record(cases: list[Case], device: str) -> dict[str, Any]:
    return {"device": device_name(device), "versions": versions(), "cases": [asdict(case) for case in cases]}


def _check(grid: list[tuple[int, str, float, str]], rounds: int, chosen: tuple[str, ...]) -> None:
    if unknown := [name for name in chosen if name not in WARM]:
        raise ValueError(f"kernel='{unknown[0]}' must be one of {', '.join(WARM)}")
    for size, kind, share, name in grid:
        if name not in TYPES:
            raise ValueError(f"dtype='{name}' must be one of {', '.join(TYPES)}")
        if kind not in PATTERNS:
            raise ValueError(f"pattern='{kind}' must be one of {', '.join(PATTERNS)}")
        if not 0 < share <= 1:
            raise ValueError(f"density={share} must be in (0, 1]")
        if size < BLOCK:
            raise ValueError(f"n={size} must be at least one block of {BLOCK}")
    if rounds < 1:
        raise ValueError(f"rounds={rounds} must be at least 1")


def _part(progress: ProgressCallback, done: int, total: int) -> Callable[[str], None]:
    return lambda what: progress(done, total, what)


def _case(
    n: int, kind: str, share: float, dtype: str, heads: int, d: int, rounds: int, device: str, chosen: tuple[str, ...],
    progress: Callable[[str], None],
) -> Case:  # fmt: skip
    progress(f"{n} {kind} {share} {dtype}")
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, n, d, generator=generator).to(device, TYPES[dtype]) for _ in range(3))
    layout, mask = PATTERNS[kind](n, heads, share, generator)
    lowered = lower(mask, layout, layout, q.device)
    call = plain_call(q, k, v, layout=layout, mask=lowered)
    sparse, notes = _sparse(call, lowered, chosen, progress)
    dense = {"sdpa": lambda: attend(call.replace(mask=None), kernel="sdpa"), "chunked": lambda: _chunked(q, k, v)}
    with flex.compiling_not_allowed():
        times = _interleaved({**dense, **sparse}, rounds, q.device)
    allowed = 1.0 if lowered is None else lowered.bound.density()
    best = min(statistics.median(times[name]) for name in dense)
    found = gather.found_pattern(call) if lowered is not None else None
    return Case(
        n=n, heads=heads, d=d, dtype=dtype, pattern=kind, density=allowed, notes=tuple(notes),
        area=1.0 if found is None else found.area, order="" if found is None else repr(found.order),
        dense=tuple(_timing(name, times[name]) for name in dense),
        sparse=tuple(_timing(name, times[name], best, allowed) for name in sparse),
    )  # fmt: skip


def _sparse(
    call: AttentionCall, lowered: Lowered | None, chosen: tuple[str, ...], progress: Callable[[str], None]
) -> tuple[dict[str, Work], list[str]]:
    """The sparse kernels that take the call, ready to run, and why another does not."""
    if lowered is None:
        return {}, ["the mask lets every pair pass"]
    arms: dict[str, Work] = {}
    notes: list[str] = []
    for name in chosen:
        progress(f"preparing {name} for {call.q.shape[2]}")
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
    """For each head and block of queries, as many key blocks as the share asks for, drawn anew."""
    blocks = -(-n // BLOCK)
    kept = max(round(share * blocks), 1)
    chosen = torch.rand(1, heads, blocks, blocks, generator=generator).argsort(-1)[..., :kept]
    allow = torch.zeros(1, heads, blocks, blocks, dtype=torch.bool).scatter_(-1, chosen, True)
    label = torch.arange(n) // BLOCK
    return Layout.plain(n, "image"), Table(label, label, allow)


def _disc(n: int, heads: int, share: float, generator: torch.Generator) -> tuple[Layout, Mask]:
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
    "disc": _disc,
}


def _chunked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same attention by two products and a softmax, a few queries at a time: where that beats the fused kernel."""
    out = torch.empty_like(q)
    scores = q.new_empty(*q.shape[:2], CHUNK, k.shape[2])
    for start in range(0, q.shape[2], CHUNK):
        rows = q[:, :, start : start + CHUNK] * q.shape[-1] ** -0.5
        room = scores[:, :, : rows.shape[2]]
        torch.softmax(torch.matmul(rows, k.mT, out=room), -1, out=room)
        out[:, :, start : start + CHUNK] = room @ v
    return out


def _interleaved(arms: dict[str, Work], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Milliseconds of each arm, once a round, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in arms}
    for counted in (False, *(True,) * rounds):
        for name, arm in arms.items():
            taken = _milliseconds(arm, device)
            times[name] += [taken] * counted
    return times


def _milliseconds(arm: Work, device: torch.device) -> float:
    start = _now(device)
    arm()
    return 1e3 * (_now(device) - start)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _timing(kernel: str, times: list[float], dense: float | None = None, density: float = 1.0) -> Timing:
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive") if len(times) > 1 else (median,) * 3
    speedup = None if dense is None else dense / median
    return Timing(
        kernel=kernel, median_ms=median, spread_ms=(high - low) / 2, speedup=speedup,
        efficiency=None if speedup is None else speedup * density,
    )  # fmt: skip


def _show(cases: list[Case]) -> None:
    table = Grid(title="sparse attention against the best dense kernel, median ms")
    columns = ("n", "pattern", "type", "density", "blocks", "dense sdpa", "dense chunked", "kernel", "ms", "speedup")
    for name in (*columns, "efficiency"):
        table.add_column(name, justify="left" if name in ("pattern", "type", "kernel") else "right")
    for cells in (row for case in cases for row in _rows(case)):
        table.add_row(*cells)
    console().print(table)
    for note in sorted({note for case in cases for note in case.notes}):
        console().print(note)


def _rows(case: Case) -> Iterator[tuple[str, ...]]:
    dense = tuple(f"{t.median_ms:.1f} ±{t.spread_ms:.1f}" for t in case.dense)
    head = (str(case.n), case.pattern, case.dtype, f"{case.density:.3f}", f"{case.area:.3f}", *dense)
    for t in case.sparse:
        yield *head, t.kernel, f"{t.median_ms:.1f} ±{t.spread_ms:.1f}", f"{t.speedup:.2f}", f"{t.efficiency:.2f}"
