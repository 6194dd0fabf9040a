"""`saccade bench architectures`: every architecture at one budget, on the same data, for the same steps."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from saccade.cli.bench_arms import TIMES, run_arms
from saccade.cli.checks import positive
from saccade.cli.printing import console

if TYPE_CHECKING:
    from saccade.experiments import BenchFile, Row


def architectures(
    out: Annotated[Path, typer.Option(help="folder of every run: weights, losses, samples, result")],
    arm: Annotated[
        list[str] | None, typer.Option(help="only this arm, or name=MODEL; may be given several times")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="path=value, such as source=cifar10")] = None,
    rounds: Annotated[int, typer.Option(help="of timing, all arms in turn; 0: none")] = 9,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; the bits of a result depend on them", callback=positive)
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="keep the figures here, and go on from them")] = None,
    seconds: Annotated[float | None, typer.Option(help="begin no run after so long; no limit without it")] = None,
) -> None:
    """Train every architecture at one budget and compare quality, speed and memory. Repeating the command goes on."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    bench = run(out, arm or [], setting or [], rounds=rounds, file=json_file, seconds=seconds)
    console().print(table(bench.rows), bench.note() or "")


def run(
    out: Path,
    arms: list[str],
    settings: list[str],
    *,
    rounds: int = 9,
    file: Path | None = None,
    seconds: float | None = None,
) -> "BenchFile":
    """See `run_arms`."""
    from saccade.train.budget_comparison import BudgetComparison

    return run_arms(BudgetComparison(), out, arms, settings, rounds=rounds, file=file, seconds=seconds)


def table(rows: "list[Row]") -> Table:
    """A row an arm, its mean over seeds with the 95 % interval where there are three or more."""
    shown = Table(box=None, padding=(0, 2, 0, 0), caption="mean over seeds [95 %]; times are ratios to the first arm")
    for title in ("arm", "width", "parameters", "MMACs", "loss", "Frechet*", "accuracy", "kept KiB", "forward", "step"):
        shown.add_column(title, justify="left" if title == "arm" else "right")
    runs, times = [each for each in rows if each["case"] != TIMES], {r["arm"]: r for r in rows if r["case"] == TIMES}
    for name in dict.fromkeys(run["arm"] for run in runs):
        shown.add_row(*row(name, [run for run in runs if run["arm"] == name], times.get(name)))
    return shown


def row(name: str, runs: list[dict[str, Any]], times: dict[str, Any] | None) -> tuple[str, ...]:
    """One arm's cells."""
    from saccade.metrics.intervals import t_interval

    first = runs[0]
    means = (str(t_interval([run[key] for run in runs])) for key in ("loss", "frechet", "accuracy"))
    ratio = (f"{times[kind][1]:.2f}" if times else "" for kind in ("forward", "step"))
    return (
        name, str(first["scaled"]), f"{first['parameters']:,}", f"{first['macs'] / 1e6:.1f}", *means,
        f"{first['kept_bytes'] / 1024:,.0f}", *ratio,
    )  # fmt: skip
