"""The catalogue: each paper's folder says in its `__init__.py` what it offers, and is found by being there.

A door, as that file is called, loads no torch: names of modules and classes stand in it as text.

    PAPER = Paper(title=..., claims=..., deviations=...)
    OFFERS = Offers(entries=(Entry(name="moh", paper=PAPER, kind=..., seam="call", hosts=..., make="system:MoH"),))
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, Literal, TypeVar

Seam = Literal["call", "block", "run", "model", "none"]
T = TypeVar("T", bound=type)
PAPERS, BASELINES = "saccade.papers", "saccade.systems"  # a folder for each paper · systems that are no paper's
STUDIES = "saccade.studies"  # a file for each experiment that is no paper's


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
    """One system or architecture of the catalogue.

    hosts    families it runs on; "grid" for all whose tokens have places, "text" for language models
    make     `module:Class` within the door's package, or the class
    """

    name: str
    paper: Paper
    kind: str
    seam: Seam
    hosts: tuple[str, ...]
    make: str | type = field(repr=False)
    status: Literal["ready", "partial", "planned"] = "ready"
    door: str = ""

    @property
    def attaches(self) -> bool:
        """Whether it plans for a model that there is; the others are models."""
        return self.seam != "model"

    @property
    def about(self) -> str:
        """The door's text: what the paper does, and how its symbols map to ours."""
        return (import_module(self.door).__doc__ or "").strip() if self.door else (self.load().__doc__ or "").strip()

    @property
    def summary(self) -> str:
        """Its first line."""
        return self.about.splitlines()[0]

    def load(self) -> Any:
        """The class: a frozen system to attach, or an architecture."""
        if isinstance(self.make, type):
            return self.make
        module, _, name = self.make.partition(":")
        return getattr(import_module(f"{self.door}.{module}"), name)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A small recipe of an architecture, for a first run on two CPU cores: what `saccade train NAME` starts from.

    options   of the model
    settings  of the recipe, as `--set` writes them
    """

    architecture: str
    about: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    settings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training of a paper's own, by the name `saccade train` takes.

    make    `module:Class` within the door's package; the module names its `STAGES`
    stage   whose length `--minutes` and `--steps` set
    door    the package, filled in by `recipes`
    """

    make: str
    stage: str = "train"
    door: str = ""

    @property
    def module(self) -> str:
        """Where the class is."""
        return f"{self.door}.{self.make.partition(':')[0]}"


@dataclass(frozen=True, kw_only=True)
class Offers:
    """What one folder brings.

    models       modules that define architectures
    parts        modules that register mixers and feed-forwards
    presets      by the name `saccade train` takes, as are
    recipes      trainings of their own
    comparison   arms of the comparison of architectures: name -> model as text
    languages    arms of the comparison of causal language models, likewise
    """

    entries: tuple[Entry, ...] = ()
    models: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    presets: Mapping[str, Preset] = field(default_factory=dict[str, Preset])
    recipes: Mapping[str, Recipe] = field(default_factory=dict[str, Recipe])
    comparison: Mapping[str, str] = field(default_factory=dict[str, str])
    languages: Mapping[str, str] = field(default_factory=dict[str, str])


_REGISTERED: dict[str, Entry] = {}


def papers() -> dict[str, ModuleType]:
    """The door of every paper by its folder's name, sorted."""
    folders = sorted(found.name for found in iter_modules(import_module(PAPERS).__path__) if found.ispkg)
    return {name: import_module(f"{PAPERS}.{name}") for name in folders}


def doors() -> tuple[ModuleType, ...]:
    """Everything that has `OFFERS`."""
    return (import_module(BASELINES), *papers().values())


def modules(kind: Literal["models", "parts"]) -> tuple[ModuleType, ...]:
    """The modules all doors name, imported."""
    return tuple(import_module(f"{door.__name__}.{name}") for door in doors() for name in getattr(door.OFFERS, kind))


def presets() -> dict[str, Preset]:
    """Recipes of every paper by the name `saccade train` takes."""
    return {name: preset for door in doors() for name, preset in door.OFFERS.presets.items()}


def recipes() -> dict[str, Recipe]:
    """Trainings of papers by the name `saccade train` takes."""
    return {
        name: replace(recipe, door=door.__name__) for door in doors() for name, recipe in door.OFFERS.recipes.items()
    }


def comparison_arms() -> dict[str, str]:
    """Architectures that papers enter into the comparison at one budget: name -> model as text."""
    return {name: model for door in doors() for name, model in door.OFFERS.comparison.items()}


def language_arms() -> dict[str, str]:
    """Causal language models that papers enter into the comparison at one budget: name -> model as text."""
    return {name: model for door in doors() for name, model in door.OFFERS.languages.items()}


def experiments() -> dict[str, str]:
    """Papers and studies that have a declared experiment, and its module.

    A paper's further ones are in files `MORE_experiment.py` beside its own and are called NAME_MORE.
    """
    found = {
        f"{name}_{file}".removesuffix("experiment").rstrip("_"): f"{PAPERS}.{name}.{file}"
        for name, door in papers().items()
        for file in (module.name for module in iter_modules(door.__path__))
        if file == "experiment" or file.endswith("_experiment")
    }
    studies = iter_modules(import_module(STUDIES).__path__)
    return dict(sorted({**found, **{study.name: f"{STUDIES}.{study.name}" for study in studies}}.items()))


def system(name: str, *, paper: Paper, kind: str, seam: Seam, hosts: tuple[str, ...]) -> Callable[[T], T]:
    """Add a class of your own to the catalogue, so that the command line finds it.

    Raises ValueError for a name that is taken.
    """

    def register(cls: T) -> T:
        if name in systems():
            raise ValueError(f"a system named '{name}' is registered already; choose another name")
        _REGISTERED[name] = Entry(name=name, paper=paper, kind=kind, seam=seam, hosts=hosts, make=cls)
        return cls

    return register


def systems() -> dict[str, Entry]:
    """All entries by name, sorted."""
    return dict(sorted({**_REGISTERED, **{entry.name: entry for entry in _offered()}}.items()))


def lookup(name: str) -> Entry:
    """One entry by name.

    Raises ValueError, listing those there are, for another.
    """
    found = systems()
    if name not in found:
        raise ValueError(f"no system is named '{name}'; there are {', '.join(found)}")
    return found[name]


def _offered() -> tuple[Entry, ...]:
    return tuple(replace(entry, door=door.__name__) for door in doors() for entry in door.OFFERS.entries)
