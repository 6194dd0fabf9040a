"""How evenly a video moves on from frame to frame: CSCV, the clip-similarity coefficient of variation.

    s_i = cos(f_i, f_{i+1}),    CV = std(s) / mean(s),    CSCV = 1 / (1 + 10 CV)

f are features of frames by an image encoder that is handed in, such as CLIP's. One cut among like frames lowers it; a
video that changes by the same amount in each frame keeps it at 1. The code of the paper's metric was not released; the
formula is inferred from its table, and the scale of 10 is the paper's.

Source: Cai et al., "DiTCtrl" (2024).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from saccade.metrics.fidelity import Picture

Encode = Callable[[Picture], Float[np.ndarray, "t c"]]  # a vector for each frame
SCALE, LEAST = 10.0, 1e-12


def cscv(video: Picture, encode: Encode, *, scale: float = SCALE) -> float:
    """CSCV of a video (t h w 3), in (0, 1].

    Raises ValueError for fewer than three frames, and for features that are no vector of some length for each frame.
    """
    return variation_score(similarities(encode(video), len(video)), scale=scale)


def similarities(features: Float[np.ndarray, "t c"], frames: int) -> Float[np.ndarray, " s"]:
    """Cosine of each frame's features with the next one's.

    Raises ValueError for fewer than three frames, and for features that are no vector of some length for each frame.
    """
    if frames < 3:
        raise ValueError(f"{frames} frames have no variation of their changes; give a video of three or more")
    found = np.asarray(features, dtype=np.float64)
    if found.ndim != 2 or len(found) != frames or not np.isfinite(found).all():
        raise ValueError(f"encode gave {found.shape} for {frames} frames; a finite vector for each is due")
    lengths = np.linalg.norm(found, axis=1)
    if not lengths.all():
        raise ValueError(f"encode gave frame {int(lengths.argmin())} a vector of no length; choose another encoder")
    unit = found / lengths[:, None]
    return (unit[:-1] * unit[1:]).sum(1)


def variation_score(values: Float[np.ndarray, " s"], *, scale: float = SCALE) -> float:
    """1 / (1 + scale std / mean): 1 for equal values, less the more they vary."""
    varied = float(np.std(values) / max(abs(float(np.mean(values))), LEAST))
    return 1.0 if np.ptp(values) == 0 else 1 / (1 + scale * varied)


def pooled_pixels(video: Picture, side: int = 8) -> Float[np.ndarray, "t c"]:
    """Features without a network: mean colours on a grid of `side` by `side`, as they differ from middle gray.

    Raises ValueError for frames smaller than the grid.
    """
    height, width = (size // side * side for size in video.shape[1:3])
    if not height or not width:
        raise ValueError(f"side={side} is more than the {video.shape[1:3]} pixels of a frame; choose a smaller one")
    cells = video[:, :height, :width].reshape(len(video), side, height // side, side, width // side, 3)
    return (cells.mean((2, 4)) - 0.5).reshape(len(video), -1)
