"""Whole models that are no paper's, and small trained ones that come with the package.

>>> from diffusers import FluxPipeline
>>> pipe = FluxPipeline.from_pretrained(path("scenes-flux"))
>>> image = pipe("a red circle left of a blue square", num_inference_steps=24, height=64, width=64).images[0]
"""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saccade.core.lazy import lazily

if TYPE_CHECKING:
    from saccade.models.architecture import Architecture as Architecture
    from saccade.models.architecture import Prediction as Prediction
    from saccade.models.causal_lm import CausalLM as CausalLM
    from saccade.models.dit import DiT as DiT
    from saccade.models.pair_classifier import PairClassifier as PairClassifier
    from saccade.models.pipeline import ArchitecturePipeline as ArchitecturePipeline
    from saccade.models.text_classifier import TextClassifier as TextClassifier
    from saccade.models.vit import ViT as ViT

__all__ = [
    "Architecture",
    "ArchitecturePipeline",
    "BUNDLED",
    "CALLS",
    "CausalLM",
    "DiT",
    "PIPELINES",
    "PairClassifier",
    "Prediction",
    "TextClassifier",
    "ViT",
    "path",
]

__getattr__, __dir__ = lazily(__name__)

BUNDLED: dict[str, str] = {
    "scenes-flux": "FLUX of a few million parameters, drawing the captions of saccade.data.scenes",
    "scenes-wan": "Wan of a few million parameters, drawing videos of saccade.data.scenes by their captions",
    "shakespeare-lm": "ModernBERT of a million parameters and a half, a masked-diffusion LM of characters",
}
PIPELINES = ("scenes-flux", "scenes-wan")  # those of them that diffusers opens
CALLS: dict[str, dict[str, Any]] = {  # arguments of their call for what each draws best, which is small
    "scenes-flux": {"num_inference_steps": 20, "height": 64, "width": 64, "max_sequence_length": 32},
    "scenes-wan": {
        "num_inference_steps": 28,
        "height": 48,
        "width": 48,
        "num_frames": 9,
        "guidance_scale": 2.0,
        "max_sequence_length": 32,
    },
}


def path(name: str) -> Path:
    """Directory of a bundled model, in the format of its own library.

    Raises ValueError for a name that is not in `BUNDLED`.
    """
    if name not in BUNDLED:
        raise ValueError(f"name='{name}' is no bundled model; choose one of {', '.join(BUNDLED)}")
    return Path(str(files("saccade.models"))) / "weights" / name
