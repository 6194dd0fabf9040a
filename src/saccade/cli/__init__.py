"""The `saccade` command.

Exit codes: 0 done; 2 something asked for cannot be (the one line on stderr says what to change); 1 anything else.
"""

import re
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires
from typing import Annotated

import typer

from saccade import __version__
from saccade.cli.lazy import Lazy

__all__ = ["app", "main"]

IMPORTED = {"scikit-learn": "sklearn"}  # libraries that are imported under another name
ABOUT = "Swap, steer, build and measure the attention of visual generative models."


class _Commands(Lazy):
    table = {
        "list": "saccade.cli.catalogue:list_systems",
        "show": "saccade.cli.show:show",
        "hosts": "saccade.cli.hosts:app",
        "generate": "saccade.cli.generate:generate",
        "edit": "saccade.cli.edit:edit",
        "drag": "saccade.cli.drag:drag",
        "compose": "saccade.cli.compose:compose",
        "guide": "saccade.cli.guide:guide",
        "insert": "saccade.cli.insert:insert",
        "multi_prompt": "saccade.cli.multi_prompt:multi_prompt",
        "inspect": "saccade.cli.inspect:inspect",
        "explain": "saccade.cli.explain:explain",
        "probe": "saccade.cli.probe:probe",
        "compare": "saccade.cli.compare:compare",
        "score": "saccade.cli.score:app",
        "reproduce": "saccade.cli.reproduce:reproduce",
        "bench": "saccade.cli.bench:app",
        "cost": "saccade.cli.cost:cost",
        "train": "saccade.cli.train:train",
    }


app = typer.Typer(cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"saccade {__version__}")
        raise typer.Exit


@app.callback(help=ABOUT)
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print it")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks instead of one line")] = False,
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; see the module for the codes."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=words, prog_name="saccade")
    except Exception as error:
        code = _code(error)
        if code is None or "--debug" in words:
            raise
        typer.echo(f"saccade: {_message(error)}", err=True)
        sys.exit(code)


def _message(error: Exception) -> str:
    """What went wrong; of a library that is not installed, which extra brings it."""
    if not isinstance(error, ModuleNotFoundError) or not (extras := _extras_with(error.name)):
        return str(error)
    return f"this needs {error.name}: pip install 'saccade[{extras[-1]}]'"  # of train and diffusers, train


def _extras_with(library: str | None) -> list[str]:
    """The extras that bring `library`, by our own metadata; none where saccade runs without being installed."""
    try:
        lines = requires("saccade") or []
    except PackageNotFoundError:
        return []
    declared = [re.match(r"([\w-]+).*; extra == ['\"](\w+)['\"]$", line) for line in lines]
    named = [match for match in declared if match and match[2] != "dev"]
    return [match[2] for match in named if IMPORTED.get(match[1], match[1].replace("-", "_")) == library]


def _code(error: Exception) -> int | None:
    """The exit code of an expected failure, None for one that deserves its traceback."""
    from saccade.core.errors import SaccadeError

    if isinstance(error, SaccadeError | ValueError):
        return 2
    return 1 if isinstance(error, OSError | ImportError) else None
