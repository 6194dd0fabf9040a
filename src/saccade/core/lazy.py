"""Public names of a package, loaded when they are first asked for: listing papers must not load torch."""

import ast
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def lazily(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package that imports its public names under `if TYPE_CHECKING:` only.

    >>> __getattr__, __dir__ = lazily(__name__)
    """

    def load(name: str) -> Any:
        names = public_names(package)
        if name == "__all__":  # asked by `from package import *`
            return sorted(names)
        if name not in names:
            raise AttributeError(f"module '{package}' has no attribute {name!r}; it has {', '.join(sorted(names))}")
        module, attribute = names[name]
        return getattr(import_module(module), attribute) if attribute else import_module(module)

    return load, lambda: sorted(public_names(package))


@cache
def public_names(package: str) -> dict[str, tuple[str, str]]:
    """What stands under `if TYPE_CHECKING:`: each name, the module it comes from and its name there.

    The second is empty for a sub-module, as in `from saccade import nn`.
    """
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    blocks = (node for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.If))
    imports = (
        statement
        for block in blocks
        if ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module
    )
    return {
        alias.asname or alias.name: (
            (f"{package}.{alias.name}", "") if statement.module == package else (str(statement.module), alias.name)
        )
        for statement in imports
        for alias in statement.names
    }
