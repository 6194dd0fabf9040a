"""What pipelines return, as pictures (t h w 3) in [0, 1]."""

from typing import Any

import numpy as np

from saccade.metrics.fidelity import Picture


def pictures(output: Any) -> list[Picture]:
    """The pictures or videos of a pipeline's output made with output_type="np", one per prompt.

    Raises ValueError for an output that holds neither `images` nor `frames`, and for a picture that is not finite.
    """
    found = getattr(output, "images", None)
    if found is None:
        found = getattr(output, "frames", None)
    if found is None:
        raise ValueError(
            f"{type(output).__name__} holds neither images nor frames; compare needs a pipeline that draws"
        )
    return [_picture(np.asarray(one, dtype=np.float32)) for one in found]


def to_bytes(picture: Picture) -> np.ndarray:
    """(t h w 3) uint8, rounded."""
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def _picture(array: np.ndarray) -> Picture:
    video = array[None] if array.ndim == 3 else array
    if video.ndim != 4 or video.shape[-1] != 3:
        raise ValueError(f"a picture has shape {array.shape}; expected (h w 3), or (t h w 3) for a video")
    if not np.isfinite(video).all():
        raise ValueError(
            "a picture holds NaN or infinity; draw it in float32, or attach fewer systems to find the cause"
        )
    return video
