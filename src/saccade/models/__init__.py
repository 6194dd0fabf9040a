"""Whole models, and small trained ones that ship with the package.

>>> from diffusers import FluxPipeline
>>> pipe = FluxPipeline.from_pretrained(path("scenes-flux"))
>>> image = pipe("a red circle left of a blue square", num_inference_steps=24, height=64, width=64).images[0]
"""

from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saccade.models.architecture import Architecture as Architecture
    from saccade.models.architecture import Prediction as Prediction
    from saccade.models.dc_dit import DCDiT as DCDiT
    from saccade.models.dico import DiCo as DiCo
    from saccade.models.dico_text import DiCoText as DiCoText
    from saccade.models.dit import DiT as DiT
    from saccade.models.dit_moe import DiTMoE as DiTMoE
    from saccade.models.dydi_lit import DyDiLiT as DyDiLiT
    from saccade.models.e_mmdit import EMMDiT as EMMDiT
    from saccade.models.moh_dit import MoHDiT as MoHDiT
    from saccade.models.pipeline import ArchitecturePipeline as ArchitecturePipeline
    from saccade.models.pt_dit import PTDiT as PTDiT
    from saccade.models.routed_lm import RoutedLM as RoutedLM

_CLASSES = {
    "Architecture": "architecture",
    "Prediction": "architecture",
    "DCDiT": "dc_dit",
    "DiCo": "dico",
    "DiCoText": "dico_text",
    "DiT": "dit",
    "DiTMoE": "dit_moe",
    "DyDiLiT": "dydi_lit",
    "EMMDiT": "e_mmdit",
    "MoHDiT": "moh_dit",
    "ArchitecturePipeline": "pipeline",
    "PTDiT": "pt_dit",
    "RoutedLM": "routed_lm",
}  # name -> the module that defines it; loaded when first asked for, since they load torch

SHIPPED: dict[str, str] = {
    "scenes-flux": "FLUX of a few million parameters, drawing the captions of saccade.data.scenes",
    "shakespeare-lm": "ModernBERT of a million parameters and a half, a masked-diffusion LM of characters",
}
PIPELINES = ("scenes-flux",)  # those of them that diffusers opens


def path(name: str) -> Path:
    """Directory of a shipped model, in the format of its own library.

    Raises `ValueError` for a name that is not in `SHIPPED`.
    """
    if name not in SHIPPED:
        raise ValueError(f"name='{name}' is no shipped model; choose one of {', '.join(SHIPPED)}")
    return Path(str(files("saccade.models"))) / "weights" / name


def __getattr__(name: str) -> object:
    if name in _CLASSES:
        return getattr(import_module(f"saccade.models.{_CLASSES[name]}"), name)
    raise AttributeError(f"module 'saccade.models' has no attribute {name!r}; it has {', '.join(_CLASSES)}, path")


def __dir__() -> list[str]:
    return [*_CLASSES, "PIPELINES", "SHIPPED", "path"]
