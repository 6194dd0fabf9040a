"""Small recipes of the architectures, for a first run on two CPU cores: what `saccade train NAME` starts from."""

from dataclasses import fields, replace
from typing import Any

from saccade.models import Architecture
from saccade.train.architecture import STAGES as STAGES
from saccade.train.architecture import ArchitectureRecipe

SMALL: dict[str, Any] = {
    "depth": 4,
    "width": 64,
    "heads": 4,
    "patch": 4,
    "learned_variance": False,
    "time_scale": 1000.0,
}


def small(architecture: str, **options: Any) -> ArchitectureRecipe:
    """The architecture with those of `SMALL` that it has, and `options`."""
    config = Architecture.kinds()[architecture].config_class()
    known = {each.name for each in fields(config)}
    shrunk = {name: value for name, value in SMALL.items() if name in known}
    return ArchitectureRecipe(architecture=architecture, model=replace(config, **shrunk | options))


def dit() -> ArchitectureRecipe:
    """The plain one: attention and perceptrons."""
    return small("DiT")


def dit_moe() -> ArchitectureRecipe:
    """Four experts a block, two at work, and one shared."""
    return small("DiTMoE", experts=4, hidden=128)


def moh_dit() -> ArchitectureRecipe:
    """Two heads always at work, one of the two others for each token."""
    return small("MoHDiT", mixer="moh(shared=2, routed=1)")


def dydi_lit() -> ArchitectureRecipe:
    """Linear attention and gated convolutions."""
    return small("DyDiLiT")


def dico() -> ArchitectureRecipe:
    """Convolutions only, five levels of one block."""
    return small("DiCo", width=32, depths=(1, 1, 1, 1, 1))


def dc_dit() -> ArchitectureRecipe:
    """A transformer on chunks between two convolutional stages."""
    return small("DCDiT", layout=("c1", ("D4",), "c1"), width=64, narrow=32, ratio_group=None)
