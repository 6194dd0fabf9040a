"""`saccade bench architectures`: every architecture at one budget, on the same data, for the same steps."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from saccade.cli.printing import console
from saccade.metrics.intervals import t_interval
from saccade.metrics.machine import best_device, device_name, versions
from saccade.ui.progress import progress_bar


def architectures(
    out: Annotated[Path, typer.Option(help="folder of every run: weights, losses, samples, result")],
    arm: Annotated[
        list[str] | None, typer.Option(help="only this arm, or name=MODEL; may be given several times")
    ] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="path=value, such as source=cifar10")] = None,
    rounds: Annotated[int, typer.Option(help="of timing, all arms in turn; 0: none")] = 9,
    threads: Annotated[int | None, typer.Option(help="CPU threads; the bits of a result depend on them")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write the figures here")] = None,
) -> None:
    """Train every architecture at one budget and compare quality, speed and memory. Repeating the command goes on."""
    figures = run(out, arm or [], setting or [], rounds=rounds, threads=threads)
    console().print(table(figures))
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n")


def run(
    out: Path, arms: list[str], settings: list[str], *, rounds: int = 9, threads: int | None = None
) -> dict[str, Any]:
    """`runs` (one a seed and arm), `times` (quartiles of ratios to the first arm), the settings and the machine."""
    import torch

    from saccade.train.budget_comparison import BudgetComparison
    from saccade.train.config import override

    if threads is not None:
        torch.set_num_threads(threads)
    comparison = override(BudgetComparison(), settings)
    comparison = replace(comparison, arms=chosen(arms, comparison.arms)) if arms else comparison
    with progress_bar() as progress:
        runs = comparison.run(out, progress)
        progress(0, 1, f"timing: {rounds} rounds")
        times = comparison.times(rounds, best_device()) if rounds else {}
    about = {"settings": asdict(comparison), "device": device_name(best_device()), "versions": versions()}
    return {"runs": runs, "times": times, **about}


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


def table(figures: dict[str, Any]) -> Table:
    """A row an arm, its mean over seeds with the 95 % interval where there are three or more."""
    shown = Table(box=None, padding=(0, 2, 0, 0), caption="mean over seeds [95 %]; times are ratios to the first arm")
    for title in ("arm", "width", "parameters", "MMACs", "loss", "Frechet*", "accuracy", "kept KiB", "forward", "step"):
        shown.add_column(title, justify="left" if title == "arm" else "right")
    for name in dict.fromkeys(run["arm"] for run in figures["runs"]):
        shown.add_row(*row(name, [run for run in figures["runs"] if run["arm"] == name], figures["times"].get(name)))
    return shown


def row(name: str, runs: list[dict[str, Any]], times: dict[str, Any] | None) -> tuple[str, ...]:
    """One arm's cells."""
    first = runs[0]
    means = (str(t_interval([run[key] for run in runs])) for key in ("loss", "frechet", "accuracy"))
    ratio = (f"{times[kind][1]:.2f}" if times else "" for kind in ("forward", "step"))
    return (
        name, str(first["scaled"]), f"{first['parameters']:,}", f"{first['macs'] / 1e6:.1f}", *means,
        f"{first['kept_bytes'] / 1024:,.0f}", *ratio,
    )  # fmt: skip
