"""Graphs of an attachment apart from those of the model: compiled modules run a copy of their code while attached.

A compiler keeps the graphs of all objects at the class's code, a limited number. A copy for every stack leaves what the
detached model compiled, or will compile, alone; the same stack attached again finds its own graphs.
"""

from collections.abc import Hashable, Iterable, Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from saccade.seam.shadow import Undo, copied, is_entry, own_code

STACKS = 8  # whose graphs are kept for one function
_copies: WeakKeyDictionary[FunctionType, dict[Hashable, CodeType]] = WeakKeyDictionary()


def own_graphs(outer: nn.Module, model: nn.Module, stack: Iterable[object]) -> Undo:
    """Give every compiled module a `forward` of its own, an equal one for an equal stack."""
    key = tuple(_by_value(part) for part in stack)
    undos = [_own_forward(module, key) for module in _compiled(outer, model)]

    def undo() -> None:
        for step in undos:
            step()

    return undo


def _compiled(outer: nn.Module, model: nn.Module) -> Iterator[Any]:
    if outer is not model:
        yield model
    for module in model.modules():
        if getattr(module, "_compiled_call_impl", None) is not None:
            yield module
        elif (inner := getattr(module, "_orig_mod", None)) is not None:
            yield inner


def _own_forward(module: nn.Module, key: Hashable) -> Undo:
    before = vars(module).get("forward")
    fn = getattr(before, "__func__", None) if before else type(module).forward
    if not isinstance(fn, FunctionType) or (before and not is_entry(fn)):  # somebody else's wrapper
        return lambda: None
    own = MethodType(copied(fn, _copy(fn, key)), module)
    object.__setattr__(module, "forward", own)

    def undo() -> None:
        if vars(module).get("forward") is not own:
            return
        vars(module).pop("forward")
        if before:
            object.__setattr__(module, "forward", before)

    return undo


def _copy(fn: FunctionType, key: Hashable) -> CodeType:
    codes = _copies.setdefault(fn, {})
    codes[key] = codes.pop(key, None) or own_code(fn.__code__)
    for old in list(codes)[:-STACKS]:
        del codes[old]
    return codes[key]


def _by_value(part: object) -> int:
    """A number equal for equal values, and for objects of one class where these are not compared by value."""
    try:
        return hash(type(part) if type(part).__hash__ is object.__hash__ else part)
    except TypeError:
        return hash(type(part))
