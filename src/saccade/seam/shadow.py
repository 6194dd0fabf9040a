"""Run one object's own code with a few names resolved differently, for that object only.

The object's method is rebuilt from the same code object, with other globals: the `__dict__` of a module of our own,
which holds a copy of everything the host's module held at that moment, save the routed names. Nothing of the host
library changes, no other object of the class is touched, and `undo` puts the old object back.

Two things let `torch.compile` trace it: the globals belong to a real module, registered in `sys.modules` under a name
of its own (the compiler looks globals up by module name), and the routed functions are plain functions whose globals
carry their interceptor: no closures.
"""

import dis
import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

Undo = Callable[[], None]
_numbers = itertools.count(1)
BINDING = "_saccade_binding"  # the attribute that holds the interceptor of a module whose attention is chosen by name
_SDPA = "scaled_dot_product_attention"


@dataclass(frozen=True, kw_only=True)
class Route:
    """A function of the host's world and the template that stands in its place. `name` is what host code calls it."""

    name: str
    original: Callable[..., Any]
    template: FunctionType


@dataclass(eq=False)
class Shadow:
    """The namespaces made for one object, one per module its code comes from."""

    interceptor: object
    routes: tuple[Route, ...]
    modules: dict[int, ModuleType] = field(default_factory=dict)

    def function(self, fn: FunctionType) -> FunctionType:
        """The same code, defaults and signature over shadow globals."""
        made = FunctionType(fn.__code__, self.namespace(fn.__globals__), fn.__name__, fn.__defaults__, fn.__closure__)
        made.__kwdefaults__, made.__qualname__, made.__doc__ = fn.__kwdefaults__, fn.__qualname__, fn.__doc__
        made.__annotations__ = fn.__annotations__
        made.__dict__.update(fn.__dict__)
        return made

    def namespace(self, home: dict[str, Any]) -> dict[str, Any]:
        """`home` copied, with every routed function and every module that leads to one replaced."""
        if id(home) not in self.modules:
            module = self.modules[id(home)] = self._register(str(home.get("__name__", "module")), home)
            own = module.__dict__
            own.update({k: s for k, v in home.items() if (s := self._substitute(v, own)) is not v})
        return self.modules[id(home)].__dict__

    def forget(self) -> None:
        """Take the shadow modules out of `sys.modules`."""
        for module in self.modules.values():
            sys.modules.pop(module.__name__, None)
        self.modules.clear()

    def _register(self, name: str, contents: dict[str, Any]) -> ModuleType:
        module = ModuleType(f"saccade_shadow_{next(_numbers)}_{name.rsplit('.', 1)[-1]}")
        module.__dict__.update(
            {k: v for k, v in contents.items() if k != "__name__"}, _saccade_interceptor=self.interceptor
        )
        sys.modules[module.__name__] = module
        return module

    def _substitute(self, value: object, home: dict[str, Any]) -> object:
        for route in self.routes:
            if value is route.original:
                home[f"_saccade_{route.name}"] = value
                return FunctionType(route.template.__code__, home, route.name, route.template.__defaults__)
        return self._proxy(value) if isinstance(value, ModuleType) and value in _LEADS else value

    def _proxy(self, module: ModuleType) -> ModuleType:
        """`torch.nn.functional`, or a module leading to it, with the routed function inside."""
        if id(module) not in self.modules:
            proxy = self.modules[id(module)] = self._register(module.__name__, module.__dict__)
            inner = _LEADS[module]
            setattr(proxy, inner, self._substitute(getattr(module, inner), proxy.__dict__))
        return self.modules[id(module)]


_LEADS: dict[ModuleType, str] = {nn.functional: _SDPA, nn: "functional", torch: "nn"}  # module -> its name on the way


def rebind_processor(module: Any, shadow: Shadow) -> Undo:
    """Replace `module.processor` by a subclass made on the fly over the same `__dict__`; ValueError without a route."""
    old = module.processor
    cls = type(old)
    methods = {name: shadow.function(fn) for name, fn in _reaching(cls, shadow.routes)}
    if not methods:
        raise ValueError(unreached(cls, shadow.routes))
    twin = type(cls.__name__, (cls,), {**methods, "__module__": cls.__module__, "__qualname__": cls.__qualname__})
    new = object.__new__(twin)
    new.__dict__ = old.__dict__
    module.processor = new

    def undo() -> None:
        if module.processor is new:
            module.processor = old
        shadow.forget()

    return undo


def rebind_methods(module: nn.Module, shadow: Shadow) -> Undo:
    """Bind the methods of `module` that call a routed function on the instance; raises ValueError if none does."""
    methods = {name: shadow.function(fn) for name, fn in _reaching(type(module), shadow.routes)}
    if not methods:
        raise ValueError(unreached(type(module), shadow.routes))
    if taken := [name for name in methods if name in vars(module)]:
        raise ValueError(f"{type(module).__name__}.{taken[0]} is already replaced on this instance; undo that first")
    for name, fn in methods.items():
        object.__setattr__(module, name, MethodType(fn, module))

    def undo() -> None:
        for name in methods:
            vars(module).pop(name, None)
        shadow.forget()

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
        if name != "__init__" and isinstance(fn, FunctionType) and _count(fn.__code__, routes):
            yield name, fn


def _count(code: CodeType, routes: tuple[Route, ...]) -> int:
    nested = [c for c in code.co_consts if isinstance(c, CodeType)]
    names = [r.name for r in routes]
    return sum(name in names for name in _loads(code)) + sum(_count(c, routes) for c in nested)


def _loads(code: CodeType) -> Iterator[str]:
    return (
        str(i.argval)
        for i in dis.get_instructions(code)
        if i.opname.startswith(("LOAD_GLOBAL", "LOAD_ATTR", "LOAD_METHOD"))
    )


def interceptor_of(module: nn.Module) -> Any | None:
    """The interceptor bound at a module, by whoever bound it; None if nobody did."""
    if binding := vars(module).get(BINDING):
        return binding.interceptor
    holders = [*vars(type(getattr(module, "processor", None))).values(), *vars(module).values()]
    functions = (getattr(h, "__func__", h) for h in holders)
    return next((f.__globals__["_saccade_interceptor"] for f in functions if _is_shadow(f)), None)


def _is_shadow(value: object) -> bool:
    return isinstance(value, FunctionType) and str(value.__globals__.get("__name__", "")).startswith("saccade_shadow_")
