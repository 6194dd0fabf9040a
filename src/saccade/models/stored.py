"""Reading what a model's folder holds, with errors that name the file: a configuration, and weights."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

POINTER = b"version https://git-lfs"  # how the stand-in begins that Git LFS leaves for a large file


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises FileNotFoundError where there is none, ValueError for one that is cut or of another format.
    """
    with _reading(path):
        return load_file(path)


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; raises as `read_weights` does."""
    with _reading(path), safe_open(path, "pt") as file:
        return file.metadata() or {}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of reading, by file, cause and mend."""
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no {path.name}; give a folder with a whole model")
    with path.open("rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise ValueError(f"{path} is a Git LFS pointer, not the weights; fetch them by git lfs pull")
    try:
        yield
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) is no whole safetensors file: {error}; it was cut or is of another "
            "format, store or copy it again"
        ) from None


def read_config(path: Path) -> dict[str, Any]:
    """The options in a JSON file.

    Raises ValueError for one that is cut or holds anything but an object.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no whole JSON file: {error}; store or copy it again") from None
    if not isinstance(stored, dict):
        raise ValueError(f"{path} holds a {type(stored).__name__}, not an object of options; store it again")
    return stored


def make_config(kind: type[Any], stored: dict[str, Any], path: Path) -> Any:
    """The configuration of class `kind` with the options of a file; those that it leaves out are the default ones.

    Raises ValueError for options that are unknown, lacking or of another type; the class refuses impossible ones.
    """
    known = {field.name: field for field in fields(kind)}
    needed = [name for name, each in known.items() if each.default is MISSING and each.default_factory is MISSING]
    if lacking := [name for name in needed if name not in stored]:
        raise ValueError(f"{path} lacks options that {kind.__name__} needs: {', '.join(lacking)}; add them")
    if unknown := [name for name in stored if name not in known]:
        raise ValueError(f"{path} has options that {kind.__name__} does not know: {', '.join(unknown)}; remove them")
    hints = get_type_hints(kind)
    options = {name: _frozen(value) for name, value in stored.items()}
    for name, value in options.items():
        if not _is(value, hints[name]):
            wanted = getattr(hints[name], "__name__", None) if not get_args(hints[name]) else None
            raise ValueError(f"{path} says {name}={json.dumps(stored[name])}; it must be {wanted or hints[name]}")
    return kind(**options)


def _is(value: Any, kind: Any) -> bool:
    """Whether a value that JSON can tell is of an annotated kind."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(_is(value, each) for each in args)
    if origin is Literal:
        return value in args
    if origin is tuple:
        many = len(args) == 2 and args[1] is Ellipsis
        each = args[:1] * len(value) if many and isinstance(value, tuple) else args
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_is, value, each))
    if origin is not None:
        return True  # of a kind that no configuration here has; the class may tell
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(_frozen(each) for each in value) if isinstance(value, list) else value
