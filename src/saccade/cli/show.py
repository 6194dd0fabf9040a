"""`saccade show NAME`: one system in full."""

import inspect
import re
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from saccade.cli.catalogue import record
from saccade.cli.options import AsJson
from saccade.cli.printing import console, print_json
from saccade.core.catalogue import Entry, lookup
from saccade.core.site import EVERYWHERE
from saccade.families import said


def show(name: Annotated[str, typer.Argument(help="as `saccade list` prints it")], as_json: AsJson = False) -> None:
    """Show one system: options, how the paper's symbols map to ours, claims, deviations and citation."""
    entry = lookup(name)
    if as_json:
        print_json(full_record(entry))
    else:
        console().print(_sheet(entry))


def full_record(entry: Entry) -> dict[str, Any]:
    """All that is known of a system, as plain values."""
    made = entry.load()
    return {
        **record(entry),
        "options": options(getattr(made, "config_class", made)),
        "symbols": entry.about,
        "claims": list(entry.paper.claims),
        "deviations": list(entry.paper.deviations),
        "bibtex": entry.paper.bibtex,
    }


def options(make: Any) -> list[dict[str, Any]]:
    """Each option's name, type, default (None where it must be given) and what the class's docstring says of it."""
    about: dict[str, str] = {}
    for cls in reversed(make.__mro__):
        about |= described(inspect.cleandoc(cls.__doc__ or ""))
    return [
        {"name": f.name, "type": _type(f.type), "default": _default(f), "about": about.get(f.name, "")}
        for f in fields(make)
        if f.init
    ]


def described(doc: str) -> dict[str, str]:
    """What a docstring says of each name in lines of the form `name   text`, or `one, two   text`, and deeper ones."""
    found: dict[str, str] = {}
    last: tuple[str, ...] = ()
    for line in doc.splitlines():
        if start := re.match(r"(\w+(?:, \w+)*) {2,}(\S.*)", line):
            last = tuple(start[1].split(", "))
            found |= dict.fromkeys(last, start[2])
        elif last and line.startswith("   ") and line.strip():
            found |= {name: f"{found[name]} {line.strip()}" for name in last}
        else:
            last = ()
    return found


def _sheet(entry: Entry) -> Group:
    known = full_record(entry)
    sections = (
        Text(f"{entry.name}: {entry.summary}", style="bold"),
        Text(f"{known['paper']} ({known['year']}, arXiv {known['arxiv']})" if known["arxiv"] else known["paper"]),
        Text(f"{entry.kind} · seam {entry.seam} · {entry.status} · hosts: {said(entry.hosts)}", style="dim"),
        _heading("Options"),
        _options(known["options"]),
        _heading("Symbols"),
        Text(known["symbols"]),
        *_bullets("Claims of the paper", known["claims"]),
        *_bullets("Where ours differs", known["deviations"]),
        *((_heading("Cite"), Text(known["bibtex"])) if known["bibtex"] else ()),
    )
    return Group(*sections)


def _options(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True)
    table.add_column()
    for row in rows:
        given = "must be given" if row["default"] is None else f"= {row['default']}"
        table.add_row(row["name"], Text(given), Text.assemble(row["about"], (f"  {row['type']}", "dim")))
    return table


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _bullets(title: str, lines: list[str]) -> tuple[Text, ...]:
    return (_heading(title), *(Text(f"- {line}") for line in lines)) if lines else ()


def _default(f: Field[Any]) -> str | None:
    if f.default is not MISSING:
        return "EVERYWHERE" if f.default == EVERYWHERE else repr(f.default)
    return None if f.default_factory is MISSING else repr(f.default_factory())


def _type(hint: Any) -> str:
    return re.sub(r"\b(?:[a-z_]+\.)+", "", inspect.formatannotation(hint))
