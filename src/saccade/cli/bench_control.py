"""`saccade bench control`: what each system of control adds to its task, on the bundled models."""

from dataclasses import asdict
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from saccade.cli.checks import positive
from saccade.cli.printing import console
from saccade.ui.progress import progress_bar

if TYPE_CHECKING:
    from saccade.experiments import Row


def control(
    json_file: Annotated[Path | None, typer.Option("--json", help="keep the figures here, and go on from them")] = None,
    task: Annotated[list[str] | None, typer.Option(help="recolour, compose, drag ...; may be repeated [all]")] = None,
    count: Annotated[int, typer.Option(help="cases of each task, about", callback=positive)] = 8,
    work: Annotated[Path | None, typer.Option(help="keep the rows of every case here, and go on from them")] = None,
    quick: Annotated[bool, typer.Option(help="a step or two a picture: whether it runs, not what it finds")] = False,
    seconds: Annotated[float | None, typer.Option(help="begin no task after so long; no limit without it")] = None,
) -> None:
    """Every task of control without a system and with each: captions kept, places, surroundings, motion."""
    from saccade.experiments import BenchFile
    from saccade.studies.control_and_speed.tasks import TASKS, ControlCases

    cases = ControlCases(tasks=tuple(task or TASKS), count=count, quick=quick)
    settings = {name: value for name, value in asdict(cases).items() if name != "tasks"}
    bench = BenchFile(file=json_file, settings=settings, seconds=seconds)
    with TemporaryDirectory() as scratch, progress_bar() as progress:
        rows = bench.run(cases.cases(work or Path(scratch), progress), progress)
    console().print(table(rows), bench.note() or "")


def table(rows: "list[Row]") -> Table:
    """A line for each task and score, a column without a system and one with."""
    found = Table("task", "score", "plain", "with a system", "cases", caption="means [95 %]")
    for row in (each for each in rows if each["arm"] == "plain"):
        others = [other for other in rows if (other["task"], other["score"]) == (row["task"], row["score"])]
        steered = [f"{other['arm']} {_shown(other)}" for other in others if other["arm"] != "plain"]
        found.add_row(row["task"], row["score"], _shown(row), "\n".join(steered), str(row["n"]))
    return found


def _shown(row: dict[str, Any]) -> str:
    from saccade.metrics.intervals import Interval

    low, high = (nan if row[end] is None else row[end] for end in ("low", "high"))
    return str(Interval(low=low, mid=row["mid"], high=high, n=row["n"]))
