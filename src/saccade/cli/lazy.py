"""Command groups that import a command only when it is called: a list of commands reads what each says of itself."""

import ast
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


class Lazy(TyperGroup):
    """Subclasses name each command's `module:object`, a function with typer's annotations or a `typer.Typer`."""

    table: ClassVar[Mapping[str, str]] = {}
    listing = False

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now, or in a list what it says of itself; None for a name that is not in the table."""
        if cmd_name not in self.table:
            return None
        module, _, name = self.table[cmd_name].partition(":")
        about = _docstring(module, name) if self.listing else None
        return _command(getattr(import_module(module), name) if about is None else _nothing(about), cmd_name)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of the commands."""
        self.listing = True
        super().format_help(ctx, formatter)
        self.listing = False


def group(cls: type[Lazy], about: str) -> typer.Typer:
    """An application whose commands are those of `cls`."""
    app = typer.Typer(cls=cls, help=about, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_nothing(about))
    return app


def _docstring(module: str, name: str) -> str | None:
    """Of a function, from the source of its module; None for what is no function there."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    found = (each for each in tree.body if isinstance(each, ast.FunctionDef) and each.name == name)
    return next(map(ast.get_docstring, found), None)


def _nothing(about: str) -> Callable[[], None]:
    def callback() -> None:
        return None

    callback.__doc__ = about
    return callback


def _command(made: Any, name: str) -> Any:
    if isinstance(made, typer.Typer):
        command = typer.main.get_command(made)
    else:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name)(made)
        command = typer.main.get_command(alone)
    command.name = name
    return command
