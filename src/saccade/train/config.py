"""Frozen configurations edited by dotted path: what a command line writes as `flow.fit.steps=200`."""

from ast import literal_eval
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def override(config: T, settings: Iterable[str]) -> T:
    """`config` with every `path=value` of `settings` applied, from left to right.

    Values are read by the field's annotation: int, float, bool, str, `None`, a `Literal`, a tuple of one type,
    or a mapping written as `name:value,name:value`.

    Raises `ValueError` for a setting without `=`, a path that names no field, or a value its type cannot read.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"setting '{setting}' has no '='; write path=value, such as flow.fit.steps=200")
        config = _set(config, path.strip().split("."), text.strip(), path)
    return config


def check_stages(names: Sequence[str], known: tuple[T, ...]) -> tuple[T, ...]:
    """Those of `known` that are in `names`, in the recipe's order.

    Raises `ValueError` for a name that is no stage.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"stage='{name}' is unknown; choose from {', '.join(map(str, known))}")
    return tuple(stage for stage in known if stage in names)


def _set(config: T, path: list[str], text: str, whole: str) -> T:
    name, rest = path[0], path[1:]
    known = [field.name for field in fields(config)] if is_dataclass(config) else []  # type: ignore[arg-type]
    if name not in known:
        raise ValueError(f"'{whole}' names no setting: no field '{name}' among {', '.join(known) or 'none'}")
    kind = get_type_hints(type(config))[name]
    value = _set(getattr(config, name), rest, text, whole) if rest else _read(text, kind, whole)
    return replace(config, **{name: value})  # type: ignore[type-var]


def _read(text: str, kind: Any, path: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return None if text == "none" else _read(text, next(arg for arg in args if arg is not NoneType), path)
    try:
        if origin is Literal:
            return {str(arg): arg for arg in args}[text]
        if origin is tuple:
            return tuple(_read(part.strip(), args[0], path) for part in text.split(","))
        if origin is Mapping:
            pairs = (part.split(":", 1) for part in text.split(","))
            return {name.strip(): _read(value.strip(), args[1], path) for name, value in pairs}
        if kind is Any:
            return _literal(text)
        return {"true": True, "false": False}[text] if kind is bool else kind(text)
    except (KeyError, ValueError, TypeError):
        wanted = " or ".join(map(str, args)) if origin is Literal else getattr(kind, "__name__", str(kind))
        raise ValueError(f"{path}={text} cannot be read; give {wanted}") from None


def _literal(text: str) -> Any:
    """A number, a truth value or None where `text` spells one in Python, else itself."""
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text
