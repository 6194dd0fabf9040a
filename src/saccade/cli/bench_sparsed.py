"""`saccade bench sparsed`: what a frozen block pattern saves, attention alone and in a small bidirectional transformer.

A run has four kinds of steps: dense, the one that finds the pattern, the first that uses it (the kernel prepares for
it), and all later ones. Every round times one of each, and plain dense, in turn, so they share the machine's moods.
A whole run of T steps is put together from the medians, finding and preparing counted.

plain   the model as it is, its attention by torch
best    for attention alone: dense by the kernel that runs the sparse steps, where that is faster than torch's
ideal   as if a step's attention took its density's share of plain attention, and finding the pattern nothing
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from saccade.attach import Run, attach
from saccade.cli.printing import console
from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.masks import Lowered
from saccade.metrics.machine import device_name, versions
from saccade.ops import attend, native, warm
from saccade.papers.sparsed import SparseD
from saccade.papers.sparsed.frozen_pattern import BlockGrid
from saccade.ui.progress import ProgressCallback as ProgressCallback
from saccade.ui.progress import progress_bar

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
STEPS = (32, 128, 1024)  # lengths of whole runs
KINDS = ("plain", "dense", "find", "first", "sparse")  # what a round times
WIDTH = 64  # of a head
BLOCK = 128  # tokens
Times = dict[str, list[float]]
Clock = Literal["wall", "cpu"]
Now = Callable[[], float]
CLOCKS: dict[str, Now] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Milliseconds of each kind of step (medians), speed-up of a sparse step with its quartiles, and of whole runs."""

    what: str
    tokens: int
    dtype: str
    density: float
    plain_ms: float
    best_ms: float | None
    dense_ms: float
    find_ms: float
    first_ms: float
    sparse_ms: float
    speedup: float
    speedup_low: float
    speedup_high: float
    ideal: float
    runs: tuple[dict[str, float], ...]


class Attention(nn.Module):
    """Attention and nothing else: what comes in is q, k and v by head."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, WIDTH

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = x.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """A layer of an encoder: attention, then an MLP of four times the width."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        width = heads * WIDTH
        self.qkv, self.attn, self.out = nn.Linear(width, 3 * width), Attention(heads), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.out(self.attn(self.qkv(self.norm(x))))
        return x + self.mlp(self.norm_mlp(x))


def run(
    *,
    sizes: tuple[int, ...] = (4096, 8192),
    dtypes: tuple[str, ...] = tuple(DTYPES),
    keep: float = 0.3,
    heads: int = 4,
    layers: int = 2,
    rounds: int = 5,
    threads: int | None = None,
    clock: Clock = "wall",
    told: Told = lambda done, total, what: None,
) -> dict[str, Any]:
    """`rows` (see `Row`), attention first, and the setting.

    clock  "wall", or "cpu" for the time of the processor, which a busy machine does not lengthen; best with one thread
    Raises ValueError for an unknown type or clock, or too few rounds.
    """
    if clock not in CLOCKS:
        raise ValueError(f"clock='{clock}' must be one of {', '.join(CLOCKS)}")
    if bad := [name for name in dtypes if name not in DTYPES]:
        raise ValueError(f"dtypes={','.join(bad)} must be among {', '.join(DTYPES)}")
    if rounds < 2:
        raise ValueError(f"rounds={rounds} must be at least 2, for a median with quartiles")
    torch.set_num_threads(threads or torch.get_num_threads())
    missing = warm()
    rows, cases = [], [(n, name) for n in sizes for name in dtypes]
    for done, (n, name) in enumerate(cases):
        told(done, len(cases), f"{n} tokens, {name}")
        rows += [asdict(row) for row in measure(n, name, keep, heads, layers, rounds, CLOCKS[clock])]
    setting = {"keep": keep, "block": BLOCK, "skip": SparseD().skip, "heads": heads, "width": WIDTH, "layers": layers}
    setting |= {"rounds": rounds, "clock": clock, "threads": torch.get_num_threads()}
    return {
        "rows": rows,
        "setting": setting,
        "device": device_name("cpu"),
        "versions": versions(),
        "remarks": [] if missing is None else [f"native is left out: {missing}"],
    }


def measure(n: int, dtype: str, keep: float, heads: int, layers: int, rounds: int, now: Now) -> tuple[Row, Row]:
    """Attention alone, then the model, on `n` tokens of which the last quarter is generated."""
    torch.manual_seed(0)
    sparsed = SparseD(keep=keep, block=BLOCK, generation=n // 4)
    alone = (Attention(heads), torch.randn(1, n, 3 * heads * WIDTH))
    model = (nn.Sequential(*(Block(heads) for _ in range(layers))), torch.randn(1, n, heads * WIDTH))
    (times, density), (whole, _) = (_timed(m, x, sparsed, DTYPES[dtype], rounds, now) for m, x in (alone, model))
    if best := _native(alone[1].to(DTYPES[dtype]), heads, rounds, now):
        times["best"] = best
    attention, all_ = (statistics.median(t["plain"]) for t in (times, whole))
    rest = max(all_ - layers * attention, 0)  # what no pattern saves
    ideals = 1 / density, all_ / (rest + density * (all_ - rest))
    return tuple(
        _row(what, n, dtype, density, found, ideal, sparsed)
        for what, found, ideal in zip(("attention", "model"), (times, whole), ideals, strict=True)
    )  # type: ignore[return-value]


def _timed(
    model: nn.Module, x: Tensor, sparsed: SparseD, dtype: torch.dtype, rounds: int, now: Now
) -> tuple[Times, float]:
    """Seconds of each kind of step, round by round after one that is not counted, and the density of sparse steps."""
    model, x = model.to(dtype).eval(), x.to(dtype)
    times: Times = {kind: [] for kind in KINDS}
    steps, last = STEPS[0], sparsed.last_dense(STEPS[0])
    at = {"dense": 0, "find": last, "first": last + 1, "sparse": last + 2}
    for _ in range(rounds + 1):
        times["plain"].append(_seconds(lambda: model(x), now))
        with attach(model, sparsed, layout=Layout.plain(x.shape[1]), heads=_heads(model)) as attached:
            for kind, step in at.items():
                attached.step(step, of=steps)
                times[kind].append(_seconds(lambda: model(x), now))
            density = _density(attached)
    return {kind: seconds[1:] for kind, seconds in times.items()}, density


def _native(x: Tensor, heads: int, rounds: int, now: Now) -> list[float]:
    """Seconds of dense attention by the native kernel, given every block; none where it cannot run."""
    q, k, v = (t.contiguous() for t in x.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4))
    layout, blocks = Layout.plain(x.shape[1]), torch.ones(1, 1, -(-x.shape[1] // BLOCK), -(-x.shape[1] // BLOCK))
    every = BlockGrid(blocks.bool(), BLOCK, layout.n)
    call = plain_call(q, k, v, layout=layout, mask=Lowered(every, layout, layout, every.bind(layout, layout)))
    if native.refuses(call):
        return []
    return [_seconds(lambda: attend(call, kernel="native"), now) for _ in range(rounds + 1)][1:]


def _heads(model: nn.Module) -> int:
    return next(m.heads for m in model.modules() if isinstance(m, Attention))


def _density(attached: Run) -> float:
    """Mean share of pairs the patterns keep."""
    masks = [memory.get("mask") for memory in attached.state.memories.values()]
    return statistics.mean(1.0 if mask is None else mask.bound.density() for mask in masks)


def _seconds(work: Callable[[], object], now: Now) -> float:
    with torch.inference_mode():
        start = now()
        work()
        return now() - start


def _row(what: str, n: int, dtype: str, density: float, times: Times, ideal: float, sparsed: SparseD) -> Row:
    ms = {f"{kind}_ms": 1e3 * statistics.median(times[kind]) for kind in KINDS}
    best = min(1e3 * statistics.median(times["best"]), ms["plain_ms"]) if "best" in times else None
    ratios = [dense / sparse for dense, sparse in zip(times["plain"], times["sparse"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Row(
        what=what, tokens=n, dtype=dtype, density=density, speedup=middle, speedup_low=low, speedup_high=high,
        ideal=ideal, best_ms=best, runs=tuple(_whole(steps, ms, ideal, sparsed) for steps in STEPS), **ms,
    )  # fmt: skip


def _whole(steps: int, ms: dict[str, float], ideal: float, sparsed: SparseD) -> dict[str, float]:
    """Speed-up of a run of `steps`, and the share of its time that finding and preparing the pattern add."""
    last = sparsed.last_dense(steps)
    taken = last * ms["dense_ms"] + ms["find_ms"] + ms["first_ms"] + (steps - last - 2) * ms["sparse_ms"]
    extra = ms["find_ms"] - ms["dense_ms"] + ms["first_ms"] - ms["sparse_ms"]
    best = 1 / sparsed.density(steps, share=1 / ideal)
    return {"steps": steps, "speedup": steps * ms["plain_ms"] / taken, "ideal": best, "pattern_share": extra / taken}


def sparsed(
    tokens: Annotated[list[int] | None, typer.Option(help="tokens; may be repeated [4096 8192]")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="float32, bfloat16 [both]")] = None,
    keep: Annotated[float, typer.Option(help="share of the key blocks kept")] = 0.3,
    heads: Annotated[int, typer.Option(help="attention heads of width 64")] = 4,
    layers: Annotated[int, typer.Option(help="layers of the transformer")] = 2,
    rounds: Annotated[int, typer.Option(help="times every kind of step is run")] = 5,
    threads: Annotated[int | None, typer.Option(help="CPU threads; torch's choice without it")] = None,
    clock: Annotated[Clock, typer.Option(help="wall, or cpu: the processor's time, for a busy machine")] = "wall",
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
) -> None:
    """SparseD against dense: attention alone and a small transformer, step by step and over whole runs."""
    with progress_bar() as told:
        figures = run(
            sizes=tuple(tokens or (4096, 8192)), dtypes=tuple(dtype or DTYPES), keep=keep, heads=heads, layers=layers,
            rounds=rounds, threads=threads, clock=clock, told=told,
        )  # fmt: skip
    console().print(_table(figures["rows"]))
    for remark in figures["remarks"]:
        console().print(remark)
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1, allow_nan=False) + "\n")


def _table(rows: list[dict[str, Any]]) -> Table:
    head = ("what", "tokens", "type", "plain ms", "best ms", "find ms", "sparse ms", "speed-up", "quartiles", "ideal")
    table = Table(*head, *(f"T={steps}" for steps in STEPS), title="SparseD: a sparse step, and whole runs (ideal)")
    for row in rows:
        table.add_row(
            row["what"], str(row["tokens"]), row["dtype"], f"{row['plain_ms']:.1f}", _ms(row["best_ms"]),
            f"{row['find_ms']:.1f}", f"{row['sparse_ms']:.1f}", f"{row['speedup']:.2f}",
            f"{row['speedup_low']:.2f} to {row['speedup_high']:.2f}", f"{row['ideal']:.2f}",
            *(f"{run['speedup']:.2f} ({run['ideal']:.2f})" for run in row["runs"]),
        )  # fmt: skip
    return table


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
