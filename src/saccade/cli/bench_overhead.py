"""`saccade bench overhead`: what an empty stack costs a step of a model; see `studies.speed.overhead`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from saccade.cli.printing import console
from saccade.metrics.machine import device_name, versions
from saccade.studies.speed.overhead import SIZES, Overhead, overheads
from saccade.ui.progress import progress_bar


def overhead(
    repeats: Annotated[int, typer.Option(help="pairs of plain and attached visits")] = 30,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
) -> None:
    """An attached empty stack against the plain model: time of a step, tiny and at 4,096 tokens."""
    with progress_bar() as progress:
        rows = overheads(repeats=repeats, sizes=SIZES, progress=progress)
    console().print(_table(rows))
    if json_file is not None:
        about = {"device": device_name("cpu"), "threads": torch.get_num_threads(), "versions": versions()}
        json_file.write_text(json.dumps({"rows": [asdict(row) for row in rows], **about}, indent=2) + "\n")


def _table(rows: list[Overhead]) -> Table:
    table = Table("size", "tokens", "plain ms", "attached ms", "ratio", "quartiles", title="an empty stack")
    for row in rows:
        table.add_row(
            row.size, str(row.tokens), f"{row.plain_ms:.2f}", f"{row.attached_ms:.2f}",
            f"{row.ratio:.4f}", f"{row.ratio_low:.4f} to {row.ratio_high:.4f}",
        )  # fmt: skip
    return table
