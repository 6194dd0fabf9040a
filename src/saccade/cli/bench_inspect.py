"""`saccade bench inspect`: what looking inside costs a step of FLUX.1's shape; see `studies.speed.recording`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from saccade.cli.checks import positive
from saccade.cli.options import Device
from saccade.cli.printing import console
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.experiments import Row


def inspect(
    repeats: Annotated[int, typer.Option(help="visits of every arm, in turn", callback=positive)] = 5,
    heads: Annotated[int, typer.Option(help="of 128 channels; FLUX.1 has 24", callback=positive)] = 24,
    device: Device = "cpu",
    json_file: Annotated[Path | None, typer.Option("--json", help="keep the figures here")] = None,
) -> None:
    """A step at 4,096 + 512 tokens unwatched, with a word's maps, and with figures of all heads: seconds and ratios."""
    from saccade.experiments import BenchFile
    from saccade.studies.speed.recording import SHAPE, measure

    bench = BenchFile(file=json_file, settings={"repeats": repeats, "heads": heads, "device": device}, seconds=None)
    shape = {**SHAPE, "heads": heads}
    with progress_bar() as progress:
        rows = bench.run({"FLUX.1": lambda: [asdict(row) for row in measure(repeats, shape, device)]}, progress)
    console().print(_table(rows), bench.note() or "")


def _table(rows: "list[Row]") -> Table:
    table = Table("arm", "seconds", "ratio", "least to most", title="1 double and 2 single blocks, 4,608 tokens")
    for row in rows:
        table.add_row(
            row["arm"],
            f"{row['seconds']:.2f}",
            f"{row['ratio']:.3f}",
            f"{row['ratio_low']:.3f} to {row['ratio_high']:.3f}",
        )
    return table
