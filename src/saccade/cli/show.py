"""`saccade show NAME`: one system in full."""

import inspect
import re
from dataclasses import MISSING, Field, asdict, fields
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from saccade.cli.catalogue import record
from saccade.cli.class_source import class_in, docstrings, options
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
    paper = entry.paper
    return {
        **record(entry),
        "options": known_options(entry),
        "symbols": entry.about,
        "claims": list(paper.claims),
        "deviations": list(paper.deviations),
        "bibtex": paper.bibtex,
    }


def known_options(entry: Entry) -> list[dict[str, Any]]:
    """Each option's name, type, default (None where it must be given) and what the class's docstring says of it."""
    return _of_class(entry.make) if isinstance(entry.make, type) else _of_source(entry)


def _of_source(entry: Entry) -> list[dict[str, Any]]:
    path, _, name = str(entry.make).partition(":")
    where, made = class_in(f"{entry.door}.{path}", name)
    about: dict[str, str] = {}
    for text in docstrings(where, made):
        about |= described(text)
    return [{**asdict(option), "about": about.get(option.name, "")} for option in options(where, made)]


def _of_class(made: type) -> list[dict[str, Any]]:
    make: Any = getattr(made, "config_class", made)
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
    paper = entry.paper
    sections = (
        Text(f"{entry.name}: {entry.summary}", style="bold"),
        Text(f"{paper.title} ({paper.year}, arXiv {paper.arxiv})" if paper.arxiv else paper.title),
        Text(f"{entry.kind} · seam {entry.seam} · {entry.status} · hosts: {said(entry.hosts)}", style="dim"),
        _heading("Options"),
        _options(known_options(entry)),
        _heading("Symbols"),
        Text(entry.about),
        *_bullets("Claims of the paper", paper.claims),
        *_bullets("Where ours differs", paper.deviations),
        *((_heading("Cite"), Text(paper.bibtex)) if paper.bibtex else ()),
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


def _bullets(title: str, lines: tuple[str, ...]) -> tuple[Text, ...]:
    return (_heading(title), *(Text(f"- {line}") for line in lines)) if lines else ()


def _default(f: Field[Any]) -> str | None:
    if f.default is not MISSING:
        return "EVERYWHERE" if f.default == EVERYWHERE else repr(f.default)
    return None if f.default_factory is MISSING else repr(f.default_factory())


def _type(hint: Any) -> str:
    return re.sub(r"\b(?:[a-z_]+\.)+", "", inspect.formatannotation(hint))
