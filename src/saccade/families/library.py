"""Every family there is. Importing this imports none of the libraries they come from."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules

from saccade.seam.family import Family

HERE = "saccade.families"
NOT_HERE = ("library", "tables", "plain")  # these build on the families


def _found() -> Iterator[Family]:
    for module in iter_modules(import_module(HERE).__path__):
        if module.name not in NOT_HERE:
            yield from (v for v in vars(import_module(f"{HERE}.{module.name}")).values() if isinstance(v, Family))


FAMILIES = tuple(sorted(_found(), key=lambda family: (family.library, family.name)))
