"""A class nobody named, made of a known class's blocks, is read as that class.

Only where it is sure: every attention module lies in a block of the very classes that stand in the known class's own
file, its name is one the family has, and the forward takes the arguments, and the config the entries, that are read.
"""

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from saccade.families.host_classes import known_family
from saccade.families.plain import attending
from saccade.seam.family import Family


def by_blocks(model: nn.Module) -> Family | None:
    """The family of the class whose blocks a model is made of, with a warning that says so; None where it is unsure."""
    names = list(attending(model))
    blocks = {type(model.get_submodule(name.rpartition(".")[0])) for name in names}
    if len({block.__module__ for block in blocks}) != 1:
        return None
    known = [cls for cls in _models_beside(blocks.pop()) if _reads(cls, model, names)]
    found = {id(family): family for cls in known if (family := known_family(cls)) is not None}
    if len(found) != 1:
        return None
    (family,) = found.values()
    _say(model, known[0], family)
    return replace(family, name=f"{family.name} (by its blocks)")


def _say(model: nn.Module, known: type, family: Family) -> None:
    warnings.warn(
        f"{type(model).__name__} is no class that saccade names; it is read as {family.name}, since its blocks are "
        f"those of {known.__name__}: check the layout, or give family=",
        UserWarning,
        stacklevel=2,
    )


def _models_beside(block: type) -> Iterator[type]:
    """Classes defined in the same file as a block that a family names themselves."""
    for cls in list(vars(sys.modules[block.__module__]).values()):
        if isinstance(cls, type) and issubclass(cls, nn.Module) and cls.__module__ == block.__module__:
            if (family := known_family(cls)) is not None and cls.__name__ in family.classes:
                yield cls


def _reads(known: type[nn.Module], model: nn.Module, names: list[str]) -> bool:
    """Whether the family of a class has a word for all attention of a model, and finds there what it reads."""
    family = known_family(known)
    assert family is not None
    if not all(family.kind(name) or any(fnmatchcase(name, p) for p in family.left_alone) for name in names):
        return False
    words = {family.main_input, *_words(family.layout), *(_words(family.rotary) if family.rotary else ())}
    arguments = words & _parameters(known.forward)
    entries = words & _parameters(known.__init__)
    return arguments <= _parameters(model.forward) and all(hasattr(_config(model), entry) for entry in entries)


def _config(model: Any) -> object:
    return getattr(model, "config", None)


def _parameters(fn: Callable[..., Any]) -> set[str]:
    return set(inspect.signature(fn).parameters) - {"self"}


def _words(fn: Any, seen: frozenset[int] = frozenset()) -> set[str]:
    """Strings and names of attributes in the code of a function, and of those of its file that it calls."""
    if not isinstance(fn, FunctionType) or id(fn) in seen:
        return set()
    words = set(_of_code(fn.__code__))
    called = (fn.__globals__.get(word) for word in words)
    inner = (cell.cell_contents for cell in fn.__closure__ or ())
    return words.union(*(_words(other, seen | {id(fn)}) for other in (*called, *inner)))


def _of_code(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from _of_code(constant)
