"""`saccade list`: the catalogue."""

from typing import Annotated, Any, get_args

import typer
from rich.table import Table

from saccade.cli.options import AsJson
from saccade.cli.printing import console, print_json
from saccade.core.catalogue import Entry, Seam, systems
from saccade.families import expanded, said


def list_systems(
    as_json: AsJson = False,
    seam: Annotated[str | None, typer.Option(help="only this seam: call, block, run, model or none")] = None,
    hosts: Annotated[bool, typer.Option("--hosts", help="each with all the families it runs on")] = False,
) -> None:
    """List the systems there are: paper, kind, seam, status and the hosts they run on."""
    if seam not in (None, *get_args(Seam)):
        raise ValueError(f"seam='{seam}' is none; choose one of {', '.join(get_args(Seam))}")
    entries = [entry for entry in systems().values() if seam in (None, entry.seam)]
    if as_json:
        print_json([record(entry) for entry in entries])
    else:
        console().print(_hosts(entries) if hosts else _table(entries))


def record(entry: Entry) -> dict[str, Any]:
    """A system's entry as plain values."""
    paper = entry.paper
    return {
        "name": entry.name,
        "paper": paper.title,
        "year": paper.year,
        "arxiv": paper.arxiv,
        "kind": entry.kind,
        "seam": entry.seam,
        "status": entry.status,
        "hosts": list(expanded(entry.hosts)),
        "summary": entry.summary,
    }


def _hosts(entries: list[Entry]) -> Table:
    table = Table(caption="saccade hosts lists the classes of each family", box=None, padding=(0, 2, 0, 0))
    table.add_column("system", style="bold", no_wrap=True)
    table.add_column("families", overflow="fold")
    for entry in entries:
        table.add_row(entry.name, ", ".join(expanded(entry.hosts)) or "-")
    return table


def _table(entries: list[Entry]) -> Table:
    table = Table(caption="saccade show NAME prints options, claims and citation", box=None, padding=(0, 2, 0, 0))
    for title in ("system", "kind", "seam", "status", "hosts", "paper"):
        table.add_column(title, overflow="fold", style="bold" if title == "system" else None)
    for entry in entries:
        paper = f"{entry.paper.title} ({entry.paper.year})" if entry.paper.year else entry.paper.title
        table.add_row(entry.name, entry.kind, entry.seam, entry.status, said(entry.hosts), paper)
    return table
