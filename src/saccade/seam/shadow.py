"""Run one object's own code with a few names resolved differently, for that object only.

The object's methods are rebuilt with other globals: the `__dict__` of a module of our own, which holds a copy of
everything the host's module holds, read at every attach, save the routed names. Nothing of the host library changes, no
other object of the class is touched, and `undo` puts the old object back.

A compiler finds graphs by code object, looks globals up by module name, and guards values. Hence rebuilt code is a
copy, so that no graph of ours answers for an object that is not attached; the globals belong to a real module,
registered in `sys.modules` while in use; and objects of one class share one rebuilt method, which reads its interceptor
from its module, so that blocks alike, and attachments alike, share graphs.
"""

import dis
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, lru_cache, update_wrapper
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import torch
from torch import nn

from saccade.core.errors import SaccadeError
from saccade.seam.entry import INTERCEPTOR, enter_module, enter_processor

Undo = Callable[[], None]
_numbers = itertools.count(1)
COMPILERS = "__import_"  # names that dynamo gives itself in a module whose code it compiled, and knows the value of
_LEADS = (nn.functional, nn, torch)  # modules by which code reaches `F.scaled_dot_product_attention`


@dataclass(frozen=True, kw_only=True)
class Route:
    """A function of the host's world and the template that stands in its place. `name` is what host code calls it."""

    name: str
    original: Callable[..., Any]
    template: Any


@dataclass(eq=False)
class Shadow:
    """What all objects attached by the same routes share: rebuilt methods, and namespaces while somebody holds them."""

    routes: tuple[Route, ...]
    namespaces: dict[int, tuple[dict[str, Any], ModuleType]] = field(default_factory=dict)  # id of globals -> both
    methods: WeakKeyDictionary[type, dict[str, FunctionType]] = field(default_factory=WeakKeyDictionary)
    twins: dict[type, type] = field(default_factory=dict)
    holders: int = 0

    def __post_init__(self) -> None:
        self.routed = {r.name: _from(r.template, r.name, _saccade_original=r.original) for r in self.routes}

    def hold(self) -> Undo:
        """Read the host's modules as they are now, and keep the copies until what is returned is called."""
        self.holders += 1
        for home, module in list(self.namespaces.values()):
            self._fill(home, module)
        return self._release

    def _release(self) -> None:
        self.holders -= 1
        for home, module in self.namespaces.values() if not self.holders else ():
            sys.modules.pop(module.__name__, None)
            for name in [name for name in home if name != "__name__"]:  # a compiler's own names stay
                vars(module).pop(name, None)

    def function(self, fn: FunctionType) -> FunctionType:
        """A copy of the code, with the same defaults and signature, over shadow globals."""
        return copied(fn, own_code(fn.__code__), vars(self._module(fn.__globals__)))

    def methods_of(self, cls: type) -> dict[str, FunctionType]:
        """The methods of a class whose code calls a routed function, as entries; ValueError if none does."""
        if cls not in self.methods:
            self.methods[cls] = {name: self._entry(enter_module, fn) for name, fn in self._reaching(cls)}
        return self.methods[cls]

    def twin(self, cls: type) -> type:
        """A subclass of a processor's class, entered by `__call__`; ValueError if none of its code is to be routed."""
        if cls not in self.twins:
            methods = {name: self.function(fn) for name, fn in self._reaching(cls)}
            entry = self._entry(enter_processor, cls.__call__)  # type: ignore[arg-type]
            named = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__reduce_ex__": _no_copy}
            self.twins[cls] = type(cls.__name__, (cls,), {**methods, **named, "__call__": entry})
        return self.twins[cls]

    def _reaching(self, cls: type) -> list[tuple[str, FunctionType]]:
        if found := list(_reaching(cls, self.routes)):
            return found
        raise ValueError(unreached(cls, self.routes))

    def _entry(self, template: FunctionType, fn: FunctionType) -> FunctionType:
        made = _named_as(fn, _from(template, fn.__name__, _saccade_own=self.function(fn)))
        made.__wrapped__ = fn  # type: ignore[attr-defined]  # hosts ask for its signature, within graphs too
        return made

    def _module(self, home: dict[str, Any]) -> ModuleType:
        """`home` copied, with every routed function and every module that leads to one replaced."""
        if id(home) not in self.namespaces:
            name = str(home.get("__name__", "module")).rsplit(".", 1)[-1]
            module = ModuleType(f"saccade_shadow_{next(_numbers)}_{name}")
            self.namespaces[id(home)] = home, module
            self._fill(home, module)
        return self.namespaces[id(home)][1]

    def _fill(self, home: dict[str, Any], module: ModuleType) -> None:
        sys.modules[module.__name__] = module
        own = {k: v if k.startswith(COMPILERS) else self._substitute(v) for k, v in home.items() if k != "__name__"}
        vars(module).update(own)

    def _substitute(self, value: object) -> object:
        if isinstance(value, ModuleType):
            return self._module(vars(value)) if value in _LEADS else value
        return next((self.routed[r.name] for r in self.routes if value is r.original), value)


@cache
def shadow_of(routes: tuple[Route, ...]) -> Shadow:
    """The one shadow of these routes."""
    return Shadow(routes)


def own_code(code: CodeType) -> CodeType:
    """A code object that does the same, nested functions included, and equals no other: it has one more constant."""
    consts = (own_code(c) if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_consts=(*consts, f"saccade {next(_numbers)}"))


def copied(fn: FunctionType, code: CodeType, home: dict[str, Any] | None = None) -> FunctionType:
    """The function with this code, over other globals where `home` is given."""
    made = FunctionType(code, fn.__globals__ if home is None else home, fn.__name__, fn.__defaults__, fn.__closure__)
    made.__kwdefaults__ = fn.__kwdefaults__
    return _named_as(fn, made)


def is_entry(fn: FunctionType) -> bool:
    """Whether a method was rebuilt here and enters its site."""
    return "_saccade_own" in (fn.__kwdefaults__ or {})


def _from(template: FunctionType, name: str, **given: Any) -> FunctionType:
    made = FunctionType(own_code(template.__code__), template.__globals__, name, template.__defaults__)
    made.__kwdefaults__ = given
    return made


def _named_as(fn: FunctionType, made: FunctionType) -> FunctionType:
    update_wrapper(made, fn)
    del made.__wrapped__  # type: ignore[attr-defined]
    vars(made).update(vars(fn))
    return made


def refuse_copy(owner: str) -> NoReturn:
    """What is attached is neither copied nor pickled.

    Raises SaccadeError, always.
    """
    raise SaccadeError(f"the model is attached by {owner}; detach before copying or pickling it")


def _no_copy(self: object, protocol: object) -> NoReturn:
    refuse_copy("a run")


def carry(module: nn.Module, interceptor: object) -> Undo:
    """Let a module carry its interceptor, where rebuilt methods find it."""
    object.__setattr__(module, INTERCEPTOR, interceptor)

    def undo() -> None:
        vars(module).pop(INTERCEPTOR, None)

    return undo


def rebind_processor(module: Any, shadow: Shadow) -> Undo:
    """Replace `module.processor` by its twin over the same `__dict__`; ValueError without a route."""
    old = module.processor
    new = object.__new__(shadow.twin(type(old)))
    new.__dict__ = old.__dict__
    module.processor = new

    def undo() -> None:
        if module.processor is new:
            module.processor = old

    return undo


def rebind_methods(module: nn.Module, shadow: Shadow) -> Undo:
    """Bind the methods of `module` that call a routed function on the instance; raises ValueError if none does."""
    methods = shadow.methods_of(type(module))
    if taken := [name for name in methods if name in vars(module)]:
        raise ValueError(f"{type(module).__name__}.{taken[0]} is already replaced on this instance; undo that first")
    for name, fn in methods.items():
        object.__setattr__(module, name, MethodType(fn, module))

    def undo() -> None:
        for name in methods:
            vars(module).pop(name, None)

    return undo


def calls(owner: type, routes: tuple[Route, ...]) -> int:
    """How many times the code of `owner` names a routed function."""
    return sum(_count(fn.__code__, routes) for _, fn in _reaching(owner, routes))


def unreached(owner: type, routes: tuple[Route, ...]) -> str:
    """Why no call of `owner` can be seen."""
    return f"the code of {owner.__name__} calls none of {', '.join(r.name for r in routes)}"


def _reaching(cls: type, routes: tuple[Route, ...]) -> Iterator[tuple[str, FunctionType]]:
    """Methods, as the class resolves them, whose own code names a routed function."""
    for name in dict.fromkeys(n for base in cls.__mro__ if base not in (nn.Module, object) for n in vars(base)):
        fn = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))
        if name == "__init__" or not isinstance(fn, FunctionType):
            continue
        fn = (fn.__kwdefaults__ or {}).get("_saccade_own", fn)  # a twin's own code
        if _count(fn.__code__, routes):
            yield name, fn


def _count(code: CodeType, routes: tuple[Route, ...]) -> int:
    nested = [c for c in code.co_consts if isinstance(c, CodeType)]
    names = [r.name for r in routes]
    return sum(name in names for name in _loads(code)) + sum(_count(c, routes) for c in nested)


@lru_cache(maxsize=4096)  # every attach reads the code of the same few classes
def _loads(code: CodeType) -> tuple[str, ...]:
    return tuple(
        str(i.argval)
        for i in dis.get_instructions(code)
        if i.opname.startswith(("LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD"))
    )


def interceptor_of(module: nn.Module) -> Any | None:
    """The interceptor bound at a module, by whoever bound it; None if nobody did."""
    return vars(module).get(INTERCEPTOR)
