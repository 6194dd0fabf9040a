"""Swap, steer, build and measure the attention of visual generative models.

Importing the package imports nothing heavy: each public name is loaded when it is first asked for.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade import (
        analysis,
        core,
        data,
        families,
        mechanisms,
        metrics,
        models,
        nn,
        ops,
        papers,
        pipelines,
        run,
        runs,
        seam,
        systems,
        train,
    )
    from saccade.attach import attach
    from saccade.compare.verb import compare
    from saccade.compose.verb import compose
    from saccade.core.errors import SaccadeError
    from saccade.core.layout import Layout
    from saccade.core.rows import Rows
    from saccade.core.site import at
    from saccade.drag.verb import drag
    from saccade.edit.verb import edit
    from saccade.guide.verb import guide
    from saccade.insert.verb import insert
    from saccade.inspect.verb import inspect
    from saccade.multi_prompt.verb import multi_prompt

__version__ = "0.1.0"

__all__ = [
    "Layout",
    "Rows",
    "SaccadeError",
    "__version__",
    "analysis",
    "at",
    "attach",
    "compare",
    "compose",
    "core",
    "data",
    "drag",
    "edit",
    "families",
    "guide",
    "insert",
    "inspect",
    "mechanisms",
    "metrics",
    "models",
    "multi_prompt",
    "nn",
    "ops",
    "papers",
    "pipelines",
    "run",
    "runs",
    "seam",
    "systems",
    "train",
]

__getattr__, __dir__ = lazily(__name__)
_VERBS = ("attach", "compare", "compose", "drag", "edit", "guide", "insert", "inspect", "multi_prompt")


class _Package(ModuleType):
    """Keeps `saccade.attach` the function when someone imports the module of that name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _VERBS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
