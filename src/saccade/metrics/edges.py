"""Does an edit keep the outlines? Canny edges of both pictures, compared as maps of 0 and 1 (ConsistEdit)."""

import numpy as np
from jaxtyping import Bool

from saccade.metrics.fidelity import SMALLEST, Picture, check_shapes

LOW, HIGH = 100 / 255, 200 / 255  # length of the Sobel gradient of a gray picture in [0, 1], weights 1 2 1
GRAY = np.array((0.299, 0.587, 0.114))


def edges(picture: Picture) -> Bool[np.ndarray, "t h w"]:
    """Edges of the unblurred gray picture; none on the outermost pixels.

    The thresholds are OpenCV's customary 100 and 200 of 255. The gradient's length is the root of the sum of squares,
    where OpenCV's default adds magnitudes: a slanted edge may fall below here and not there.
    """
    from skimage.feature import canny

    gray = picture.astype(np.float64) @ GRAY
    return np.stack([canny(frame, sigma=0, low_threshold=LOW, high_threshold=HIGH) for frame in gray])


def canny_ssim(picture: Picture, reference: Picture) -> float:
    """Structural similarity of the two edge maps, windows of 7 pixels, mean over frames; 1 for equal edges."""
    from skimage.metrics import structural_similarity

    check_shapes(picture, reference)
    side = min(SMALLEST, *picture.shape[1:3])
    frames = zip(edges(picture).astype(float), edges(reference).astype(float), strict=True)
    return float(
        np.mean([structural_similarity(a, b, win_size=side - 1 + side % 2, data_range=1.0) for a, b in frames])
    )
