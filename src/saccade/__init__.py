"""Swap, steer, build and measure the attention of visual generative models.

Importing the package imports nothing heavy: each public name is loaded when it is first asked for.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saccade import analysis, core, data, hosts, mechanisms, metrics, models, nn, ops, runs, systems, train
    from saccade.attach import attach
    from saccade.compare import compare
    from saccade.edit import edit

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "analysis",
    "attach",
    "compare",
    "core",
    "data",
    "edit",
    "hosts",
    "mechanisms",
    "metrics",
    "models",
    "nn",
    "ops",
    "runs",
    "systems",
    "train",
]

_FUNCTIONS = {
    "attach": "saccade.attach",
    "compare": "saccade.compare",
    "edit": "saccade.edit",
}  # name -> the module that defines it


class _Package(ModuleType):
    """Keeps `saccade.attach` the function when someone imports the module of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FUNCTIONS and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


def __getattr__(name: str) -> object:
    if name in _FUNCTIONS:
        return getattr(import_module(_FUNCTIONS[name]), name)
    if name in __all__:
        return import_module(f"saccade.{name}")
    raise AttributeError(f"module 'saccade' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)


sys.modules[__name__].__class__ = _Package
