"""Maps of words over the picture they belong to."""

import numpy as np
from jaxtyping import Float

from saccade.analysis.attention_record import AttentionRecord
from saccade.metrics.fidelity import Picture

COLOURS = "inferno"
COVER = 0.75  # how much of the picture the hottest place hides


def panels(picture: Picture, record: AttentionRecord) -> dict[str, Picture]:
    """The picture and each word's map over it, by their captions."""
    return {"picture": picture, **{word: overlay(picture, record.map(word)) for word in record.words}}


def overlay(picture: Picture, heat: Float[np.ndarray, "f y x"]) -> Picture:
    """A map on tokens, stretched to [0, 1] over all frames, laid over the picture.

    Frames of tokens that stand for several of a video cover all of them.
    """
    from matplotlib import colormaps

    heat = scaled(heat, picture.shape[:3])
    colour = colormaps[COLOURS](heat)[..., :3].astype(np.float32)
    cover = COVER * heat[..., None]
    return picture * (1 - cover) + colour * cover


def shaded(heat: Float[np.ndarray, "f y x"]) -> Picture:
    """A map by itself, stretched to [0, 1], a pixel for each token."""
    from matplotlib import colormaps

    return colormaps[COLOURS](_stretched(heat))[..., :3].astype(np.float32)


def scaled(heat: Float[np.ndarray, "f y x"], size: tuple[int, ...]) -> Float[np.ndarray, "frames h w"]:
    """A map stretched to [0, 1] and resized to a picture, smoothly within frames."""
    from skimage.transform import resize

    frames = np.arange(size[0]) * len(heat) // size[0]
    return np.asarray(resize(_stretched(heat)[frames], size, order=1, mode="edge"), dtype=np.float32)


def _stretched(heat: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    return (heat - heat.min()) / max(float(np.ptp(heat)), 1e-12)
