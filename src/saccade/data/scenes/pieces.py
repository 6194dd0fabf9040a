"""Cut a picture into pieces: every pixel is explained as a mixture of background and one colour.

Pixels more than half covered are split by colour into connected pieces. Colours nobody knows make pieces of their own.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from saccade.data.scenes.shapes import area
from saccade.data.scenes.world import COLOURS, SIZES

Mask = Bool[np.ndarray, "n n"]

OFF_COLOUR = 60.0  # RGB distance from which a colour is none of the known ones
MIN_AREA = 0.15 * area("triangle") * SIZES["small"] ** 2  # share of the picture; smaller pieces are specks
REACH = 2 / 64  # a speck this near to a piece belongs to its outline
STRANGE = len(COLOURS)  # label of foreground that no colour explains
_TONES = np.array(list(COLOURS.values()), np.float32)


def explain(pixels: Float[np.ndarray, "n n 3"], ground: Float[np.ndarray, "3"]) -> Int[np.ndarray, "n n"]:
    """Colour index of each pixel more than half covered by a thing, `STRANGE` where no colour explains it, else -1."""
    tones, lift = _TONES - ground, pixels - ground
    power = np.maximum((tones * tones).sum(1), 1)
    share = np.clip(lift @ tones.T / power, 0, 1)  # (n n colours)
    miss = (lift * lift).sum(-1)[..., None] - 2 * share * (lift @ tones.T) + share * share * power  # squared distance
    best = miss.argmin(-1)
    least, covered = (np.take_along_axis(values, best[..., None], -1)[..., 0] for values in (miss, share))
    strange = least > OFF_COLOUR**2
    return np.where(strange, STRANGE, np.where(covered > 0.5, best, -1))


def pieces(labels: Int[np.ndarray, "n n"]) -> list[tuple[int, Mask]]:
    """Connected pieces of one label; specks join the piece they touch, and are dropped where they touch none."""
    from scipy import ndimage

    least, ids, found = MIN_AREA * labels.size, np.zeros(labels.shape, int), []
    for label in np.unique(labels[labels >= 0]):
        parts = np.zeros(labels.shape, np.int32)
        ndimage.label(labels == label, output=parts)
        for part in np.flatnonzero(np.bincount(parts.ravel())[1:] >= least) + 1:
            found.append(int(label))
            ids[parts == part] = len(found)
    if not found:
        return []
    ids = np.where(labels >= 0, _spread(ids, REACH * len(labels)), 0)
    return [(label, ids == i + 1) for i, label in enumerate(found)]


def _spread(ids: Int[np.ndarray, "n n"], reach: float) -> Int[np.ndarray, "n n"]:
    """Each pixel's nearest id above zero, 0 if that is more than `reach` pixels away."""
    from scipy import ndimage

    row, column = np.asarray(ndimage.distance_transform_edt(ids == 0, return_distances=False, return_indices=True))
    own_row, own_column = np.indices(ids.shape)
    return np.where(np.hypot(row - own_row, column - own_column) <= reach, ids[row, column], 0)
