"""Does a drawn scene follow its mask or sketch, and its caption? Read from the pixels, by the exact scene."""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, UInt8

from saccade.data.scenes import COLOURS, SHAPES, Scene, masks
from saccade.data.scenes.pieces import explain

Bytes = UInt8[np.ndarray, "n n 3"]
NAMES, TONES = tuple(COLOURS), np.array(list(COLOURS.values()), np.float32)


def foreground(picture: Bytes) -> Bool[np.ndarray, "n n"]:
    """Pixels more than half covered by a thing, against the background: the median of the border."""
    pixels = picture.astype(np.float32)
    border = np.concatenate((pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))
    return explain(pixels, np.median(border, axis=0)) >= 0


def covered(scene: Scene, side: int) -> Bool[np.ndarray, "n n"]:
    """Pixels of the scene's things."""
    return np.any(masks(scene, side), axis=0)


def mean_iou(picture: Bytes, scene: Scene) -> float:
    """Mean over things and background of intersection over union with the scene's exact masks."""
    seen, true = foreground(picture), covered(scene, len(picture))
    return (iou(seen, true) + iou(~seen, ~true)) / 2


def iou(one: Bool[np.ndarray, "n n"], two: Bool[np.ndarray, "n n"]) -> float:
    """Intersection over union; 1 for two empty masks."""
    union = (one | two).sum()
    return float((one & two).sum() / union) if union else 1.0


def colours_kept(picture: Bytes, scene: Scene) -> float:
    """Share of things in whose exact mask the median colour is nearest to their own."""
    kept = []
    for thing, owned in zip(scene.things, masks(scene, len(picture)), strict=True):
        away = np.linalg.norm(TONES - np.median(picture[owned].astype(np.float32), axis=0), axis=1)
        kept.append(NAMES[int(away.argmin())] == thing.colour)
    return float(np.mean(kept))


def other_shape(scene: Scene) -> Scene:
    """The scene with the next shape in place of every thing's own."""
    after = dict(zip(SHAPES, (*SHAPES[1:], SHAPES[0]), strict=True))
    return replace(scene, things=tuple(replace(thing, shape=after[thing.shape]) for thing in scene.things))


def follows(picture: Bytes, control: Scene, said: Scene) -> bool:
    """Whether what is drawn overlaps the controlled scene's masks better than those of the scene in the caption."""
    seen = foreground(picture)
    first, second = (iou(seen, covered(scene, len(picture))) for scene in (control, said))
    return first > second
