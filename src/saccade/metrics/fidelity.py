"""How close one picture, or video, is to another of the same shape.

A picture is (t h w 3) float in [0, 1], t = 1 for a still. Scores are means over frames.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, log10

import numpy as np
from jaxtyping import Float

Picture = Float[np.ndarray, "t h w 3"]
Judge = Callable[[np.ndarray, np.ndarray], float]
SMALLEST = 7  # pixels of SSIM's window


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """psnr in dB, inf for equal pictures; ssim at most 1; lpips 0 for equal pictures, None where not measured."""

    psnr: float
    ssim: float
    lpips: float | None = None

    @property
    def same(self) -> bool:
        """Whether the two pictures are equal in every bit."""
        return self.psnr == inf


def fidelity(picture: Picture, reference: Picture, *, lpips: Judge | None = None) -> Fidelity:
    """All scores of one picture against another; `lpips` comes from `perceptual`."""
    return Fidelity(
        psnr=psnr(picture, reference),
        ssim=ssim(picture, reference),
        lpips=None if lpips is None else lpips(picture, reference),
    )


def psnr(picture: Picture, reference: Picture) -> float:
    """Peak signal-to-noise ratio in dB, the peak being 1; over the error of all frames."""
    check_shapes(picture, reference)
    error = float(np.mean((picture.astype(np.float64) - reference.astype(np.float64)) ** 2))
    return -10 * log10(error) if error else inf


def ssim(picture: Picture, reference: Picture) -> float:
    """Structural similarity, windows of 7 pixels (fewer where a side is shorter), mean over channels and frames."""
    from skimage.metrics import structural_similarity

    check_shapes(picture, reference)
    side = min(SMALLEST, *picture.shape[1:3])
    frames = zip(picture, reference, strict=True)
    options = {"win_size": side - 1 + side % 2, "channel_axis": -1, "data_range": 1.0}
    return float(np.mean([structural_similarity(a, b, **options) for a, b in frames]))


def check_shapes(picture: Picture, reference: Picture) -> None:
    """Raise ValueError unless both have one shape."""
    if picture.shape != reference.shape:
        raise ValueError(f"picture {picture.shape} and reference {reference.shape} must have one shape")
