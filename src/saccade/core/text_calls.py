"""Parts, models and systems as text, `name` or `name(option=value)`: read, never evaluated.

One parser for configurations (`mixer="moh(shared=2)"`), models (`"DiT(depth=4)"`) and the command line's stacks.
"""

import ast
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class TextCall:
    """A name with options, their values not yet read."""

    name: str
    options: Mapping[str, ast.expr]

    def plain(self) -> dict[str, Any]:
        """The options as plain values.

        Raises ValueError for anything else, as ast.literal_eval does.
        """
        return {name: ast.literal_eval(value) for name, value in self.options.items()}


def read_call(text: str, kind: str) -> tuple[str, dict[str, Any]]:
    """Name and options, all plain values, of a text.

    Raises ValueError, naming the `kind` of thing that was to be read, for any other text.
    """
    with suppress(SyntaxError, ValueError):
        if (call := as_call(ast.parse(text, mode="eval").body)) is not None:
            return call.name, call.plain()
    raise ValueError(f"{kind} '{text}' cannot be read; write a name, or name(option=value) with plain values")


def as_call(node: ast.expr) -> TextCall | None:
    """A parsed expression as a call with options by name; None where it is something else."""
    match node:
        case ast.Name(id=name):
            return TextCall(name, {})
        case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
            return TextCall(name, {str(keyword.arg): keyword.value for keyword in keywords})
        case _:
            return None


def check_options(subject: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise ValueError for an option that is not known, with the nearest that is."""
    for option in given:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            guess = f" (did you mean '{near[0]}'?)" if near else ""
            raise ValueError(f"{subject} has no option '{option}'{guess}; it has {', '.join(known) or 'none'}")
