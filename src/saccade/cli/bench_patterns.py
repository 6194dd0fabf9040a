"""`saccade bench patterns`: what finding the blocks of a mask takes; see `studies.speed.patterns`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from saccade.cli.checks import positive
from saccade.cli.printing import console
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.experiments import Row


def patterns(
    json_file: Annotated[Path | None, typer.Option("--json", help="keep the figures here, and go on from them")] = None,
    tokens: Annotated[
        list[int] | None, typer.Option(help="may be repeated [4096 16384 119056 262656]", callback=positive)
    ] = None,
    mask: Annotated[list[str] | None, typer.Option(help="disc, clear, ball, window, sparsed [all]")] = None,
    kernel: Annotated[str, typer.Option(help="whose block costs are used: native or gather")] = "native",
    queries: Annotated[int, typer.Option(help="of each block that a selector scores", callback=positive)] = 3,
    threads: Annotated[int, typer.Option(help="CPU threads", callback=positive)] = 1,
    seconds: Annotated[float | None, typer.Option(help="begin no case after so long; no limit without it")] = None,
) -> None:
    """Seconds, memory and computed pairs of block patterns, from 4,096 to 262,656 tokens, and what selectors take."""
    import torch

    from saccade.experiments import BenchFile
    from saccade.ops import gather
    from saccade.ops.native_cost import block_costs
    from saccade.studies.speed.patterns import PatternCases

    kernels = {"native": block_costs, "gather": gather.COSTS.__getitem__}
    if kernel not in kernels:
        raise typer.BadParameter(f"kernel='{kernel}' must be one of {', '.join(kernels)}")
    torch.set_num_threads(threads)
    usual = PatternCases()
    cases = PatternCases(tokens=tuple(tokens or usual.tokens), masks=tuple(mask or usual.masks), queries=queries)
    settings = {**asdict(cases), "kernel": kernel, "threads": threads}
    bench = BenchFile(file=json_file, settings=settings, seconds=seconds)
    with progress_bar() as progress:
        rows = bench.run(cases.cases(kernels[kernel](torch.float32)), progress)
    console().print(_patterns([row for row in rows if row["kind"] == "pattern"]))
    console().print(_selectors([row for row in rows if row["kind"] == "selector"]), bench.note() or "")


def _patterns(rows: "list[Row]") -> Table:
    table = Table("mask", "tokens", "density", "computed / allowed", "block", "order", "tiles", "s", "CPU s", "MB",
                  title="block patterns")  # fmt: skip
    for row in rows:
        table.add_row(
            row["mask"], f"{row['tokens']:,}", f"{row['density']:.4f}", f"{row['computed']:.2f}",
            str(row["size"][0]), row["order"], str(row["tiles"]), f"{row['seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}", _megabytes(row),
        )  # fmt: skip
    return table


def _selectors(rows: "list[Row]") -> Table:
    table = Table("tokens", "queries a block", "dense, s", "selector, s", "share", "MB", title="selectors")
    for row in rows:
        share = f"{row['share']:.3f} [{row['share_low']:.3f}, {row['share_high']:.3f}]"
        times = (f"{row['dense_seconds']:.2f}", f"{row['seconds']:.3f}")
        table.add_row(f"{row['tokens']:,}", str(row["queries"]), *times, share, _megabytes(row))
    return table


def _megabytes(row: "Row") -> str:
    return "" if row["extra_bytes"] is None else f"{row['extra_bytes'] / 1e6:.0f}"
