"""`saccade bench gpu`: numbers, waits, graphs and times on a card, in eight minutes; see `studies.cuda_kernel.gpu`."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from saccade.cli.printing import console
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.experiments import Row

INTERPRET = "TRITON_INTERPRET"


def gpu(
    out: Annotated[Path, typer.Option(help="folder of gpu.json, kept after every part; repeating the command goes on")],
    dry: Annotated[bool, typer.Option(help="try it out, tiny, on the CPU by Triton's interpreter")] = False,
    seconds: Annotated[float, typer.Option(help="begin no part after so long")] = 480,
) -> None:
    """Numbers, waits, graphs and times of the CUDA kernels on the card at hand."""
    import torch

    from saccade.experiments import BenchFile
    from saccade.studies.cuda_kernel.gpu import DRY, GpuBench, cases

    if dry and os.environ.get(INTERPRET) != "1":
        raise typer.Exit(interpreted(out, seconds))
    if not dry and not torch.cuda.is_available():
        raise ValueError("no CUDA device is at hand; --dry tries the bench out on the CPU")
    bench = DRY if dry else GpuBench()
    out.mkdir(parents=True, exist_ok=True)
    file = BenchFile(file=out / "gpu.json", settings=asdict(bench), device=bench.device, seconds=seconds)
    with progress_bar() as progress:
        rows = file.run(cases(bench), progress)
    show(rows)
    console().print(file.note() or f"all parts are in {out / 'gpu.json'}")


def interpreted(out: Path, seconds: float) -> int:
    """The same command where Triton is not yet loaded: it decides then whether it interprets."""
    command = "from saccade.cli import main; main()"
    words = ["bench", "gpu", "--out", str(out), "--dry", "--seconds", str(seconds)]
    return subprocess.run([sys.executable, "-c", command, *words], env={**os.environ, INTERPRET: "1"}).returncode


def show(rows: "list[Row]") -> None:
    """What came out, in a few lines."""
    from saccade.studies.cuda_kernel.gpu import summary

    compared = [row for row in rows if "ok" in row]
    wrong = [row for row in compared if not row["ok"]]
    failed = [f"{row['case']}: {row['error']}" for row in rows if "error" in row]
    console().print(f"{len(compared) - len(wrong)} of {len(compared)} comparisons within the error budget")
    for row in wrong:
        console().print(" ".join(str(row[name]) for name in ("kernel", "dtype", "width", "factors", "width_v", "form")))
    for line in failed:
        console().print(line, markup=False)
    table = Table("tokens", "UNIT", "mixed / open", title="a block of this kernel beside the best dense one's")
    for row in summary(rows):
        table.add_row(f"{row['n']:,}", *("" if row[name] is None else f"{row[name]:.2f}" for name in ("unit", "mixed")))
    console().print(table)
