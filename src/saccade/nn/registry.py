"""Parts by name: `mixer="moh(shared=2, routed=2)"` in a configuration, `@mixer("moh")` above the class.

Such text is read, never evaluated: a name, and options that are plain values.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any, TypeVar

from torch import nn

from saccade.core.catalogue import modules

T = TypeVar("T", bound=type)
Parts = dict[str, type]

MIXERS: Parts = {}
FEEDFORWARDS: Parts = {}
OWN = ("attention", "feedforward", "linear_attention", "moe")  # modules of saccade.nn that register parts


def mixer(name: str) -> Callable[[T], T]:
    """Register a mixer; its constructor is `(width, heads, **options)`."""
    return lambda cls: _registered(MIXERS, name, cls)


def feedforward(name: str) -> Callable[[T], T]:
    """Register a feed-forward; its constructor is `(width, **options)`."""
    return lambda cls: _registered(FEEDFORWARDS, name, cls)


def make_mixer(text: str, width: int, heads: int) -> nn.Module:
    """The mixer that `text` names; an option `heads` of its own goes before `heads`."""
    cls, options = _read(_known(MIXERS), text, "mixer")
    return cls(width, **{"heads": heads, **options})


def make_feedforward(text: str, width: int) -> nn.Module:
    """The feed-forward that `text` names."""
    cls, options = _read(_known(FEEDFORWARDS), text, "feed-forward")
    return cls(width, **options)


def mixers() -> Parts:
    """All mixers by name."""
    return dict(sorted(_known(MIXERS).items()))


def feedforwards() -> Parts:
    """All feed-forwards by name."""
    return dict(sorted(_known(FEEDFORWARDS).items()))


def _known(parts: Parts) -> Parts:
    for module in OWN:
        import_module(f"saccade.nn.{module}")
    modules("parts")  # those of papers
    return parts


def _registered(parts: Parts, name: str, cls: T) -> T:
    if name in parts and parts[name].__qualname__ != cls.__qualname__:
        raise ValueError(
            f"a part named '{name}' is registered already ({parts[name].__qualname__}); choose another name"
        )
    parts[name] = cls
    return cls


def _read(parts: Parts, text: str, kind: str) -> tuple[type, dict[str, Any]]:
    name, options = read_call(text, kind)
    if name not in parts:
        raise ValueError(f"no {kind} is named '{name}'; there are {', '.join(sorted(parts))}")
    known = _known_options(parts[name])
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"{kind} '{name}' has no option '{unknown[0]}'; it has {', '.join(known) or 'none'}")
    return parts[name], options


def _known_options(cls: type) -> list[str]:
    """Of a part's constructor; one that passes further options on has those of the class it extends."""
    found = inspect.signature(cls).parameters.values()
    own = [each.name for each in found if each.kind is not each.VAR_KEYWORD and each.name != "width"]
    return own if len(own) + 1 == len(found) else own + _known_options(cls.__mro__[1])


def read_call(text: str, kind: str) -> tuple[str, dict[str, Any]]:
    """Name and options of `name` or `name(option=value)`; nothing is evaluated.

    Raises ValueError, naming the kind of thing that was to be read, for any other text.
    """
    with suppress(SyntaxError, ValueError):
        match ast.parse(text, mode="eval").body:
            case ast.Name(id=name):
                return name, {}
            case ast.Call(func=ast.Name(id=name), args=[], keywords=keywords):
                return name, dict(_options(keywords))
    raise ValueError(f"{kind} '{text}' cannot be read; write a name, or name(option=value) with plain values")


def _options(keywords: list[ast.keyword]) -> Iterator[tuple[str, Any]]:
    for keyword in keywords:
        yield str(keyword.arg), ast.literal_eval(keyword.value)
