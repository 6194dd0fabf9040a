"""`saccade bench architectures`: every architecture at one budget, on the same data, for the same steps."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from saccade.cli.checks import positive
from saccade.cli.printing import console
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.experiments import BenchFile, Row

TIMES = "times"


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
    """A row for each run, one a seed and arm, and one for each arm's times (quartiles of ratios to the first arm)."""
    from saccade.experiments import BenchFile
    from saccade.metrics.machine import best_device
    from saccade.train.budget_comparison import BudgetComparison
    from saccade.train.config import override

    comparison = override(BudgetComparison(), settings)
    comparison = replace(comparison, arms=chosen(arms, comparison.arms)) if arms else comparison
    bench = BenchFile(file=file, settings=asdict(comparison), device=best_device(), seconds=seconds)
    cases = {name: lambda result=result: [result()] for name, result in comparison.cases(out).items()}
    times = {TIMES: lambda: [{"arm": name} | each for name, each in comparison.times(rounds, best_device()).items()]}
    with progress_bar() as progress:
        bench.run(cases | (times if rounds else {}), progress)
    return bench


def chosen(wanted: list[str], known: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arms by name, or new ones written `name=MODEL`.

    Raises ValueError for a name that is not known.
    """
    from saccade.models.sizing import Arm

    by_name = {arm.name: arm for arm in known}
    found = []
    for text in wanted:
        name, new, model = text.partition("=")
        if not new and name not in by_name:
            raise ValueError(f"arm '{name}' is unknown; choose from {', '.join(by_name)}, or write name=MODEL")
        found.append(Arm(name=name, model=model) if new else by_name[name])
    return tuple(found)


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
