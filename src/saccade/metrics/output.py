"""What pipelines return, as pictures (t h w 3) in [0, 1]."""

from typing import Any

import numpy as np
from PIL import Image

from saccade.metrics.fidelity import Picture


def pictures(output: Any) -> list[Picture]:
    """The pictures or films of a pipeline's output made with output_type="np", one per prompt.

    Raises ValueError for an output that holds neither `images` nor `frames`.
    """
    found = getattr(output, "images", None)
    if found is None:
        found = getattr(output, "frames", None)
    if found is None:
        raise ValueError(
            f"{type(output).__name__} holds neither images nor frames; compare needs a pipeline that draws"
        )
    return [_picture(np.asarray(one, dtype=np.float32)) for one in found]


def as_picture(image: Image.Image | np.ndarray) -> Picture:
    """A still (1 h w 3) of a PIL image, or of an array (h w 3) of bytes or of floats in [0, 1]."""
    array = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else image
    scaled = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
    if scaled.ndim != 3 or scaled.shape[-1] != 3 or not (0 <= scaled.min() <= scaled.max() <= 1):
        raise ValueError(f"a picture of {array.dtype} {array.shape} must be (h w 3), bytes or floats in [0, 1]")
    return scaled[None]


def to_bytes(picture: Picture) -> np.ndarray:
    """(t h w 3) uint8, rounded."""
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def _picture(array: np.ndarray) -> Picture:
    film = array[None] if array.ndim == 3 else array
    if film.ndim != 4 or film.shape[-1] != 3:
        raise ValueError(f"a picture has shape {array.shape}; expected (h w 3), or (t h w 3) for a film")
    return film
