"""Which classes of an installed library are hosts: read by which family, or why not."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules

from torch import nn

from saccade.families.library import FAMILIES
from saccade.families.refused import REFUSED
from saccade.seam.family import Family

FOLDERS = {"transformers": "transformer", "unets": "U-Net", "controlnets": "control-net"}  # of diffusers.models
UNKNOWN = "unknown: run `saccade hosts probe {}`"


@dataclass(frozen=True, kw_only=True)
class HostClass:
    """One class: `kind` says what it is, `family` who reads it, `reason` why nobody does."""

    name: str
    kind: str
    family: str | None = None
    reason: str = ""

    @property
    def unknown(self) -> bool:
        """Whether nobody has looked at this class yet."""
        return self.reason == UNKNOWN.format(self.name)


def hosts(library: str = "diffusers") -> tuple[HostClass, ...]:
    """Every transformer, U-Net and control-net class of the installed library, sorted by kind and name.

    Raises ValueError for another library than diffusers, whose classes the other families name one by one.
    """
    if library != "diffusers":
        raise ValueError(
            f"library='{library}' is not listed; diffusers is, and docs/hosts.md names what is known of the others"
        )
    return tuple(_judged(cls, kind) for folder, kind in FOLDERS.items() for cls in _classes(folder))


def known_family(cls: type) -> Family | None:
    """The family that names a class, or the nearest of its bases, bare or as `library.Class`; None where none does."""
    names = (name for c in cls.__mro__ for name in (c.__name__, f"{c.__module__.partition('.')[0]}.{c.__name__}"))
    return next((family for name in names for family in FAMILIES if name in family.classes), None)


def _judged(cls: type, kind: str) -> HostClass:
    name = cls.__name__
    if (family := known_family(cls)) is not None:
        return HostClass(name=name, kind=kind, family=family.name)
    return HostClass(name=name, kind=kind, reason=REFUSED.get(name, UNKNOWN.format(name)))


def _classes(folder: str) -> list[type[nn.Module]]:
    return sorted(_defined(f"diffusers.models.{folder}"), key=lambda cls: cls.__name__)


def _defined(package: str) -> Iterator[type[nn.Module]]:
    """The models that the modules of a package define, not those they import."""
    from diffusers.models.modeling_utils import ModelMixin

    for found in iter_modules(import_module(package).__path__):
        module = import_module(f"{package}.{found.name}")
        yield from (
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, ModelMixin) and value.__module__ == module.__name__
        )
