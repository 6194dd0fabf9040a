"""Where output goes: results to stdout, progress and notes to stderr."""

import json
from typing import Any

import typer
from rich.console import Console

PIPED_WIDTH = 160  # columns when nobody's terminal says otherwise


def console() -> Console:
    """For tables on stdout: as wide as the terminal, or wide enough for a table when piped."""
    found = Console()
    return found if found.is_terminal else Console(width=PIPED_WIDTH)


def print_json(value: Any) -> None:
    """Indented JSON on stdout, nothing else."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
