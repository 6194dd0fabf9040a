"""`saccade bench overhead`: what an empty stack costs a step of a model, attached against plain.

The same FLUX of random weights, plain and attached with no system, in turn within one run, so that drift of the machine
hits both alike. Each visit runs some steps uncounted, times as many and keeps the fastest; the ratio is the median over
visits of attached / plain. Two sizes: tiny, where a step is mostly Python, and 4,096 tokens, where it is attention.
"""

import json
import statistics
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import nn

from saccade.attach import attach
from saccade.cli.printing import console
from saccade.metrics.machine import device_name, versions
from saccade.models.random_flux import flux
from saccade.ui.progress import ProgressCallback, progress_bar

SIZES = {  # name -> shape, steps timed per visit
    "tiny": ({"text": 16, "height": 8, "width": 8, "heads": 2, "layers": 2}, 20),
    "4096": ({"text": 256, "height": 60, "width": 64, "heads": 4, "layers": 1}, 1),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One size: median milliseconds of a step, and of the ratio attached / plain its median and quartiles."""

    size: str
    tokens: int
    plain_ms: float
    attached_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    repeats: int


def run(*, repeats: int = 30, progress: ProgressCallback = lambda done, total, what: None) -> dict[str, Any]:
    """`rows` (see `Row`) and the machine. Cost: 2 repeats steps of the long size. Raises ValueError below 2 repeats."""
    if repeats < 2:
        raise ValueError(f"repeats={repeats} must be at least 2, for a median with quartiles")
    rows = []
    for number, (size, (shape, steps)) in enumerate(SIZES.items()):
        progress(number, len(SIZES), f"{size}: {repeats} pairs")
        rows.append(asdict(measure(size, shape, steps, repeats)))
    return {"rows": rows, "device": device_name("cpu"), "threads": torch.get_num_threads(), "versions": versions()}


def measure(size: str, shape: dict[str, int], steps: int, repeats: int) -> Row:
    """Plain and attached in turn, the one that goes first changing each time; one pair beforehand is not counted."""
    model, inputs = flux(**shape)
    pairs = []
    for visit in range(repeats + 1):
        order = (False, True) if visit % 2 else (True, False)
        seconds = {attached: _visit(model, inputs, steps, attached) for attached in order}
        pairs.append((seconds[False], seconds[True]))
    plain, attached = zip(*pairs[1:], strict=True)
    low, middle, high = statistics.quantiles([a / p for p, a in pairs[1:]], n=4)
    return Row(
        size=size, tokens=shape["text"] + shape["height"] * shape["width"], plain_ms=1e3 * statistics.median(plain),
        attached_ms=1e3 * statistics.median(attached), ratio=middle, ratio_low=low, ratio_high=high, repeats=repeats,
    )  # fmt: skip


def overhead(
    repeats: Annotated[int, typer.Option(help="pairs of plain and attached visits")] = 30,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
) -> None:
    """An attached empty stack against the plain model: time of a step, tiny and at 4,096 tokens."""
    with progress_bar() as progress:
        figures = run(repeats=repeats, progress=progress)
    console().print(_table(figures["rows"]))
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")


def _visit(model: nn.Module, inputs: dict[str, Any], steps: int, attached: bool) -> float:
    """Seconds of the fastest of `steps` forwards, after as many to warm up."""
    with torch.inference_mode(), attach(model) if attached else nullcontext():
        return min([_seconds(model, inputs) for _ in range(2 * steps)][steps:])


def _seconds(model: nn.Module, inputs: dict[str, Any]) -> float:
    start = time.perf_counter()
    model(**inputs)
    return time.perf_counter() - start


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("size", "tokens", "plain ms", "attached ms", "ratio", "quartiles", title="an empty stack")
    for row in rows:
        table.add_row(
            row["size"], str(row["tokens"]), f"{row['plain_ms']:.2f}", f"{row['attached_ms']:.2f}",
            f"{row['ratio']:.4f}", f"{row['ratio_low']:.4f} to {row['ratio_high']:.4f}",
        )  # fmt: skip
    return table
