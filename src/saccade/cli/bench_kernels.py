"""`saccade bench kernels`: sparse kernels against the best dense one; see `studies.speed.kernels`."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table

from saccade.cli.printing import console
from saccade.metrics.machine import device_name, versions
from saccade.studies.speed.kernels import Case, KernelCases
from saccade.ui.progress import progress_bar


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
    usual = KernelCases()
    chosen = KernelCases(
        n=tuple(n or usual.n), density=tuple(density or usual.density), dtype=tuple(dtype or usual.dtype),
        pattern=tuple(pattern or usual.pattern), heads=heads, d=d, rounds=rounds, device=device,
        kernels=tuple(kernel or usual.kernels),
    )  # fmt: skip
    with progress_bar() as progress:
        cases = chosen.measured(progress)
    _show(cases)
    if out is not None:
        out.write_text(json.dumps(_record(cases, device), indent=2) + "\n")


def _record(cases: list[Case], device: str) -> dict[str, Any]:
    return {"device": device_name(device), "versions": versions(), "cases": [asdict(case) for case in cases]}


def _show(cases: list[Case]) -> None:
    table = Table(title="sparse attention against the best dense kernel, median ms")
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
