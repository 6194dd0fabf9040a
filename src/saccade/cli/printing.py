"""Where output goes: results to stdout, progress and notes to stderr."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Told = Callable[[int, int, str], None]  # done, in all, what runs now
PIPED_WIDTH = 160  # columns when nobody's terminal says otherwise


def console() -> Console:
    """For tables on stdout: as wide as the terminal, or wide enough for a table when piped."""
    found = Console()
    return found if found.is_terminal else Console(width=PIPED_WIDTH)


def print_json(value: Any) -> None:
    """Indented JSON on stdout, nothing else."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


@contextmanager
def progress_bar() -> Iterator[Told]:
    """A bar on stderr; what it yields is told (done, total, what)."""
    columns = (TextColumn("{task.description:<34.34}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)
