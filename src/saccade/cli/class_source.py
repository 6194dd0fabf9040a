"""Options of a dataclass read from its source, so that a system can be shown without loading torch.

Names are followed through assignments and imports, as far as literals go: `rank: int = RANK` is shown as 16.
"""

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path


@dataclass(frozen=True)
class Option:
    """One field; `default` is None where it must be given."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True, eq=False)
class Module:
    """The source of a module."""

    name: str
    body: list[ast.stmt] = field(repr=False)

    def find(self, name: str) -> "tuple[Module, ast.stmt] | None":
        """Where a name is bound to a class or a value, through imports; None for names that are not saccade's."""
        for statement in self.body:
            if isinstance(statement, ast.ClassDef) and statement.name == name:
                return self, statement
            if name in map(_text, _targets(statement)):
                return self, statement
            if isinstance(statement, ast.ImportFrom):
                for alias in statement.names:
                    if name == (alias.asname or alias.name):
                        return self._imported(statement, alias.name)
        return None

    def _imported(self, statement: ast.ImportFrom, name: str) -> "tuple[Module, ast.stmt] | None":
        named = "." * statement.level + (statement.module or "")
        origin = resolve_name(named, self.name.rpartition(".")[0]) if statement.level else named
        return module(origin).find(name) if origin.partition(".")[0] == "saccade" else None


@cache
def module(name: str) -> Module:
    """A module of saccade, read and not imported; what stands under an `if` counts too."""
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return Module(name, list(_flat(tree.body)))


def class_in(name: str, cls: str) -> tuple[Module, ast.ClassDef]:
    """A class by its module and name, wherever it is made."""
    return _class(module(name), cls)


def bases(where: Module, made: ast.ClassDef) -> Iterator[tuple[Module, ast.ClassDef]]:
    """A class and those it is made from, the furthest first; the dataclass that describes it in place of a model."""
    if (config := _assigned(made, "config_class")) is not None:
        where, made = _class(where, _text(config))
    for base in made.bases:
        found = where.find(_text(base))
        if found is not None and isinstance(found[1], ast.ClassDef):
            yield from bases(found[0], found[1])
    yield where, made


def docstrings(where: Module, made: ast.ClassDef) -> list[str]:
    """Of a class and those it is made from, the furthest first."""
    return [ast.get_docstring(each) or "" for _, each in bases(where, made)]


def options(where: Module, made: ast.ClassDef) -> list[Option]:
    """The fields that are given to make one, in order; one that is declared again keeps its place."""
    found: dict[str, Option] = {}
    for module_, each in bases(where, made):
        for statement in each.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                if (option := _option(module_, statement)) is not None:
                    found[option.name] = option
    return list(found.values())


def _option(where: Module, statement: ast.AnnAssign) -> Option | None:
    hint = ast.unparse(_Aliases(where).visit(copy.deepcopy(statement.annotation)))
    if hint.startswith("ClassVar") or _keyword(statement.value, "init") == "False":
        return None
    return Option(_text(statement.target), re.sub(r"\b(?:[a-z_]+\.)+", "", hint), _default(where, statement.value))


class _Aliases(ast.NodeTransformer):
    """Names of types of ours give way to the types."""

    def __init__(self, where: Module) -> None:
        self.where = where

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if (found := _behind(self.where, node.id)) is None or not isinstance(found[1], ast.Subscript | ast.BinOp):
            return node
        return _Aliases(found[0]).visit(copy.deepcopy(found[1]))


def _default(where: Module, value: ast.expr | None) -> str | None:
    if value is None:
        return None
    if not (isinstance(value, ast.Call) and _text(value.func) == "field"):
        return _shown(where, value)
    given = {k.arg: k.value for k in value.keywords}
    if "default_factory" in given:
        return _made(given["default_factory"])
    return _shown(where, given["default"]) if "default" in given else None


def _shown(where: Module, value: ast.expr) -> str:
    """A literal as Python shows it, all else as it is written."""
    value = _resolved(where, value)
    try:
        return repr(ast.literal_eval(value))
    except ValueError:
        return ast.unparse(value)


def _made(factory: ast.expr) -> str:
    """What a factory makes."""
    if isinstance(factory, ast.Lambda):
        return ast.unparse(factory.body)
    text = ast.unparse(factory)
    return {"dict": "{}", "list": "[]", "tuple": "()"}.get(text.partition("[")[0], f"{text}()")


def _resolved(where: Module, value: ast.expr) -> ast.expr:
    """The literal behind a name of ours; all else as it is."""
    if not isinstance(value, ast.Name) or (found := _behind(where, value.id)) is None:
        return value
    return found[1] if isinstance(found[1], ast.Constant | ast.Tuple | ast.Dict | ast.UnaryOp) else value


def _behind(where: Module, name: str) -> tuple[Module, ast.expr] | None:
    """The expression that a name is bound to, through other names; None for classes and names that are not ours."""
    if (found := where.find(name)) is None or isinstance(found[1], ast.ClassDef):
        return None
    origin, statement = found
    value = _bound(statement, name)
    further = _behind(origin, value.id) if isinstance(value, ast.Name) else None
    return further or (None if value is None else (origin, value))


def _bound(statement: ast.stmt, name: str) -> ast.expr | None:
    """What a statement binds to a name; of `A, B = 1, 2` its own part."""
    value = getattr(statement, "value", None)
    names = [_text(target) for target in _targets(statement)]
    return value.elts[names.index(name)] if isinstance(value, ast.Tuple) and len(names) > 1 else value


def _class(where: Module, name: str) -> tuple[Module, ast.ClassDef]:
    found = where.find(name)
    assert found is not None and isinstance(found[1], ast.ClassDef)
    return found[0], found[1]


def _assigned(made: ast.ClassDef, name: str) -> ast.expr | None:
    return next((s.value for s in made.body if isinstance(s, ast.Assign) and name in map(_text, s.targets)), None)


def _targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return [t for target in statement.targets for t in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [statement.target] if isinstance(statement, ast.AnnAssign) else []


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield from _flat(statement.body) if isinstance(statement, ast.If) else [statement]


def _keyword(value: ast.expr | None, name: str) -> str | None:
    if not isinstance(value, ast.Call):
        return None
    return next((ast.unparse(k.value) for k in value.keywords if k.arg == name), None)


def _text(node: ast.AST) -> str:
    return ast.unparse(node)
