"""Every family there is. Importing this imports none of the libraries they come from."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from saccade.seam.family import Family

HERE = "saccade.families"
NOT_HERE = (
    "library",
    "tables",
    "plain",
    "refused",
    "host_classes",
    "by_blocks",
    "probing",
)  # no families, or built on them


def _found() -> Iterator[tuple[str, Family]]:
    for module in iter_modules(import_module(HERE).__path__):
        if module.name not in NOT_HERE:
            named = vars(import_module(f"{HERE}.{module.name}")).items()
            yield from ((name.lower(), value) for name, value in named if isinstance(value, Family))


NAMED = dict(sorted(_found(), key=lambda named: (named[1].library, named[1].name)))  # by the names of their constants
FAMILIES = tuple(NAMED.values())
