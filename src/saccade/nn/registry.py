"""Parts by name: `mixer="moh(shared=2, routed=2)"` in a configuration, `@mixer("moh")` above the class."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from torch import nn

from saccade.core.catalogue import modules
from saccade.core.text_calls import check_options, read_call

T = TypeVar("T", bound=type)
Parts = dict[str, type]

MIXERS: Parts = {}
FEEDFORWARDS: Parts = {}
OWN = ("attention", "feedforward", "linear_attention", "moe", "token_mlp")  # modules of saccade.nn that register parts


def mixer(name: str) -> Callable[[T], T]:
    """Register a mixer; its constructor is `(width, heads, **options)`, `tokens` among them if it fits one number."""
    return lambda cls: _registered(MIXERS, name, cls)


def feedforward(name: str) -> Callable[[T], T]:
    """Register a feed-forward; its constructor is `(width, **options)`."""
    return lambda cls: _registered(FEEDFORWARDS, name, cls)


def make_mixer(text: str, width: int, heads: int, *, tokens: int | None = None) -> nn.Module:
    """The mixer that `text` names; an option `heads` or `tokens` of its own goes before ours.

    `tokens`: how many there always are, for mixers made for one number; None where the model takes any.
    Raises ValueError for such a mixer where neither says how many.
    """
    cls, options = _read(_known(MIXERS), text, "mixer")
    if "tokens" in _known_options(cls):
        options = {"tokens": tokens, **options}
        if options["tokens"] is None:
            raise ValueError(f"mixer '{text}' is made for one number of tokens; give it, as in tokens=64")
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
    check_options(f"{kind} '{name}'", options, _known_options(parts[name]))
    return parts[name], options


def _known_options(cls: type) -> list[str]:
    """Of a part's constructor; one that passes further options on has those of the class it extends."""
    found = inspect.signature(cls).parameters.values()
    own = [each.name for each in found if each.kind is not each.VAR_KEYWORD and each.name != "width"]
    return own if len(own) + 1 == len(found) else own + _known_options(cls.__mro__[1])
