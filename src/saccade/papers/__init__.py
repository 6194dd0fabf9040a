"""Published systems: a folder for each paper, read from its `__init__.py` on.

>>> from saccade.papers import Clear, MoH, DiTMoE
"""

from typing import Any

from saccade.core import catalogue
from saccade.core.lazy import public_names


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name in (found := _names()):
        return getattr(found[name], name)
    raise AttributeError(f"module 'saccade.papers' has no attribute {name!r}; it has {', '.join(sorted(found))}")


def __dir__() -> list[str]:
    return sorted(_names())


def _names() -> dict[str, Any]:
    """Every public name, and the door that offers it."""
    return {name: door for door in catalogue.doors() for name in public_names(door.__name__)}
