"""`saccade hosts probe`: look at a model nobody named, and print a family to paste."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from saccade.cli.options import AsJson
from saccade.cli.printing import console, print_json

if TYPE_CHECKING:
    from saccade.families import Probe


def probe(
    model: Annotated[str, typer.Argument(help="a class of diffusers, or the folder of a model or pipeline of it")],
    inputs: Annotated[
        Path | None, typer.Option(help="a .py file whose make() returns the model and the arguments of a forward")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="file for the family; without it, it is printed")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a forward a few times, list what attention sees site by site, and write a Family that says so.

    Without --inputs a small random model is made of the class or the folder's config, with inputs by its signature.
    """
    from saccade.families import probe as look
    from saccade.families.probing.made import made

    if out is not None and not out.absolute().parent.is_dir():
        raise ValueError(f"out='{out}' lies in no folder there is; make {out.absolute().parent} first")
    network, given = made(model) if inputs is None else _given(model, inputs)
    found = look(network, given)
    if out is not None:
        out.write_text(found.source)
    if as_json:
        print_json({"model": found.model, "sites": found.records(), "padding": found.padding, "source": found.source})
        return
    console().print(_table(found))
    typer.echo(f"the family is in {out}" if out is not None else f"\n{found.source}", nl=out is not None)


def _given(name: str, file: Path) -> tuple[Any, dict[str, Any]]:
    """What make() of a file returns: a model of this class, and arguments."""
    import runpy

    if not file.is_file():
        raise ValueError(f"inputs='{file}' is no file; write one whose make() returns a model and its arguments")
    make = runpy.run_path(str(file)).get("make")
    if make is None:
        raise ValueError(f"inputs='{file}' defines no make(), which returns a model and the arguments of a forward")
    model, given = make()
    if (own := type(model).__name__) != name:
        raise ValueError(f"make() of '{file}' returns a {own}, not a {name}; run `saccade hosts probe {own}`")
    return model.eval(), given


def _table(found: "Probe") -> Table:
    padding = found.padding or "none that was seen to mask attention"
    table = Table(box=None, padding=(0, 2, 0, 0), caption=f"padding: {padding}", caption_justify="left")
    for title in ("sites", "n", "kind", "queries", "keys", "rows each", "calls"):
        table.add_column(title, overflow="fold", style="bold" if title == "sites" else None)
    for record in found.records():
        table.add_row(*map(str, record.values()))
    return table
