"""Swap, steer, build and measure the attention of visual generative models.

Importing the package imports nothing heavy: each public name is loaded when it is first asked for.
"""

import sys
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_FUNCTIONS = {"attach": "saccade.attach", "compare": "saccade.compare"}  # name -> the module that defines it
_PACKAGES = ("analysis", "data", "hosts", "mechanisms", "metrics", "models", "nn", "ops", "runs", "systems", "train")

__all__ = sorted(("__version__", *_FUNCTIONS, *_PACKAGES))


class _Package(ModuleType):
    """Keeps `saccade.attach` the function when someone imports the module of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FUNCTIONS and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


def __getattr__(name: str) -> object:
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    if name in _PACKAGES:
        return import_module(f"saccade.{name}")
    raise AttributeError(f"module 'saccade' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)


sys.modules[__name__].__class__ = _Package
