"""`saccade hosts`: which classes of the installed diffusers are read, by which family, and which are not, and why."""

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from saccade.cli.lazy import Lazy
from saccade.cli.options import AsJson
from saccade.cli.printing import console, print_json

if TYPE_CHECKING:
    from saccade.families import HostClass


class _Probes(Lazy):
    table = {"probe": "saccade.cli.hosts_probe:probe"}


app = typer.Typer(cls=_Probes, invoke_without_command=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def list_hosts(
    ctx: typer.Context,
    as_json: AsJson = False,
    library: Annotated[str, typer.Option(help="whose classes; diffusers is the one that is listed")] = "diffusers",
) -> None:
    """List every transformer, U-Net and control-net class that is installed: its family, or why it has none."""
    if ctx.invoked_subcommand is not None:
        return
    from saccade.families import hosts

    found = hosts(library)
    if as_json:
        print_json([asdict(host) for host in found])
    else:
        console().print(_table(found))
        typer.echo(counted(found))


def counted(found: "tuple[HostClass, ...]") -> str:
    """How many classes there are, are read, are refused with a reason, and are unknown."""
    n = Counter("read" if host.family else "unknown" if host.unknown else "refused" for host in found)
    return f"{len(found)} classes: {n['read']} read, {n['refused']} refused, {n['unknown']} unknown"


def _table(found: "tuple[HostClass, ...]") -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("class", "kind", "family", "why not"):
        table.add_column(title, overflow="fold", style="bold" if title == "class" else None)
    for host in found:
        table.add_row(host.name, host.kind, host.family or "-", host.reason)
    return table
