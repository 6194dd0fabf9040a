"""Command groups that import a command only when it is called or listed."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperGroup


class Lazy(TyperGroup):
    """Subclasses name each command's `module:object`, a function with typer's annotations or a `typer.Typer`."""

    table: ClassVar[Mapping[str, str]] = {}

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, imported now; None for a name that is not in the table."""
        if cmd_name not in self.table:
            return None
        module, _, name = self.table[cmd_name].partition(":")
        return _command(getattr(import_module(module), name), cmd_name)


def group(cls: type[Lazy], about: str) -> typer.Typer:
    """An application whose commands are those of `cls`."""
    app = typer.Typer(cls=cls, help=about, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    app.callback()(_nothing(about))
    return app


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
