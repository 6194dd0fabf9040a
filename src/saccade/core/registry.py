"""The catalogue of systems: a dict and a decorator, with what a paper claims kept beside its code."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, TypeVar

Seam = Literal["call", "block", "run", "model", "none"]
T = TypeVar("T", bound=type)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a system comes from, what was claimed, and where ours differs."""

    title: str
    year: int
    arxiv: str
    bibtex: str
    claims: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One system of the catalogue."""

    name: str
    paper: Paper
    kind: str
    seam: Seam
    status: Literal["ready", "partial", "planned"]
    hosts: tuple[str, ...]
    make: Callable[..., Any] = field(repr=False)

    @property
    def summary(self) -> str:
        """First line of the system's docstring."""
        return (self.make.__doc__ or "").strip().splitlines()[0]

    @property
    def attaches(self) -> bool:
        """Whether it plans for a model that there is; the others `build()` one."""
        return hasattr(self.make, "plan")


GRID_HOSTS = ("flux", "sd3", "pixart", "wan", "cogvideox", "hunyuan_video", "qwen_image", "timm", "torch")
TEXT_HOSTS = ("llama", "bert", "modernbert", "qwen2_vl", "llava")

_ENTRIES: dict[str, Entry] = {}
BUILT_IN = tuple(
    f"saccade.systems.{name}"
    for name in (
        "clear",
        "consistedit",
        "dc_dit",
        "dense",
        "dico",
        "dit_moe",
        "dydila",
        "e_mmdit",
        "flashbias",
        "graph_moe",
        "moh",
        "pt_dit",
        "sparsed",
    )
)


def system(
    name: str,
    *,
    paper: Paper,
    kind: str,
    seam: Seam,
    hosts: tuple[str, ...],
    status: Literal["ready", "partial", "planned"] = "ready",
) -> Callable[[T], T]:
    """Register a class under `name`; a second one of that name is an error."""

    def register(cls: T) -> T:
        if name in _ENTRIES and _ENTRIES[name].make.__qualname__ != cls.__qualname__:
            raise ValueError(
                f"a system named '{name}' is registered already ({_ENTRIES[name].make.__qualname__}); "
                "choose another name"
            )
        _ENTRIES[name] = Entry(name=name, paper=paper, kind=kind, seam=seam, status=status, hosts=hosts, make=cls)
        return cls

    return register


def systems() -> dict[str, Entry]:
    """All systems by name, sorted."""
    for module in BUILT_IN:
        import_module(module)
    return dict(sorted(_ENTRIES.items()))


def lookup(name: str) -> Entry:
    """One system by name; the error lists what there is."""
    found = systems()
    if name not in found:
        raise ValueError(f"no system is named '{name}'; there are {', '.join(found)}")
    return found[name]
