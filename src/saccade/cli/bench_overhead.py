"""`saccade bench overhead`: what an empty stack costs a step of a model; see `studies.speed.overhead`."""

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


def overhead(
    repeats: Annotated[int, typer.Option(help="pairs of plain and attached visits", callback=positive)] = 30,
    json_file: Annotated[Path | None, typer.Option("--json", help="keep the figures here, and go on from them")] = None,
    seconds: Annotated[float | None, typer.Option(help="begin no size after so long; no limit without it")] = None,
) -> None:
    """An attached empty stack against the plain model: time of a step, tiny and at 4,096 tokens."""
    from saccade.experiments import BenchFile
    from saccade.studies.speed.overhead import SIZES, measure

    bench = BenchFile(file=json_file, settings={"repeats": repeats}, seconds=seconds)
    sizes = {name: lambda name=name: [asdict(measure(name, *SIZES[name], repeats))] for name in SIZES}
    with progress_bar() as progress:
        rows = bench.run(sizes, progress)
    console().print(_table(rows), bench.note() or "")


def _table(rows: "list[Row]") -> Table:
    table = Table("size", "tokens", "plain ms", "attached ms", "ratio", "quartiles", title="an empty stack")
    for row in rows:
        table.add_row(
            row["size"], str(row["tokens"]), f"{row['plain_ms']:.2f}", f"{row['attached_ms']:.2f}",
            f"{row['ratio']:.4f}", f"{row['ratio_low']:.4f} to {row['ratio_high']:.4f}",
        )  # fmt: skip
    return table
