"""Small recipes of the architectures, for a first run on two CPU cores: what `saccade train NAME` starts from."""

from dataclasses import fields, replace
from typing import Any

from saccade.core import catalogue
from saccade.core.catalogue import Preset
from saccade.models import Architecture
from saccade.train.architecture import STAGES as STAGES
from saccade.train.architecture import ArchitectureRecipe
from saccade.train.config import override

SMALL: dict[str, Any] = {
    "depth": 4,
    "width": 64,
    "heads": 4,
    "patch": 4,
    "learned_variance": False,
    "time_scale": 1000.0,
}
OWN = {"dit": Preset(architecture="DiT", about="The plain one: attention and perceptrons.")}


def preset(name: str) -> ArchitectureRecipe:
    """The recipe of this name, ours or a paper's."""
    found = {**OWN, **catalogue.presets()}[name]
    return override(small(found.architecture, **found.options), found.settings)


def small(architecture: str, **options: Any) -> ArchitectureRecipe:
    """The architecture with those of `SMALL` that it has, and `options`."""
    config = Architecture.kinds()[architecture].config_class()
    known = {each.name for each in fields(config)}
    shrunk = {name: value for name, value in SMALL.items() if name in known}
    return ArchitectureRecipe(architecture=architecture, model=replace(config, **shrunk | options))
