"""How close two pictures are in one region, such as what an edit should leave alone. Two conventions, both in use.

`blanked`  everything else is painted black in both, then the whole frames are compared (PIE-Bench). A small region
           scores better than a large one with the same error: black equals black.
`within`   the mean over the region alone.
"""

from dataclasses import dataclass
from math import inf, log10, nan

import numpy as np
from jaxtyping import Bool

from saccade.metrics.fidelity import SMALLEST, Picture, check_shapes

Region = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """mse of values in [0, 1]; psnr in dB, inf for equal regions; ssim at most 1. All nan where the region is empty."""

    mse: float
    psnr: float
    ssim: float


NOTHING = Closeness(mse=nan, psnr=nan, ssim=nan)


def blanked(picture: Picture, reference: Picture, region: Region) -> Closeness:
    """Both pictures black outside `region`, compared on the full frame."""
    check_region(picture, reference, region)
    if not region.any():
        return NOTHING
    return within(painted(picture, region), painted(reference, region), np.ones_like(region))


def within(picture: Picture, reference: Picture, region: Region) -> Closeness:
    """Means over the pixels of `region`: of the squared error, and of the map of structural similarity.

    SSIM's windows are 7 pixels wide and may reach out of the region; windows that leave the picture are not counted.
    """
    check_region(picture, reference, region)
    if not region.any():
        return NOTHING
    squares = (picture.astype(np.float64) - reference.astype(np.float64)) ** 2
    mse = float(squares[:, region].mean())
    return Closeness(mse=mse, psnr=-10 * log10(mse) if mse else inf, ssim=_ssim(picture, reference, region))


def painted(picture: Picture, region: Region) -> Picture:
    """The picture, black outside `region`."""
    return picture * region[..., None]


def check_region(picture: Picture, reference: Picture, region: Region) -> None:
    """Raise ValueError unless the pictures have one shape and the region their height and width."""
    check_shapes(picture, reference)
    if region.dtype != np.bool_ or region.shape != picture.shape[1:3]:
        raise ValueError(
            f"region {region.dtype} {region.shape} must be bool of the pictures' {picture.shape[1:3]}; "
            "binarise and resize it first"
        )


def _ssim(picture: Picture, reference: Picture, region: Region) -> float:
    """Mean of the map over the region, nan where no window around its pixels fits into the picture."""
    from skimage.metrics import structural_similarity

    side = min(SMALLEST, *region.shape)
    width = side - 1 + side % 2
    inner = np.zeros_like(region)
    edge = width // 2
    inner[edge : len(region) - edge, edge : region.shape[1] - edge] = True
    options = {"win_size": width, "channel_axis": -1, "data_range": 1.0, "full": True}
    maps = [structural_similarity(a, b, **options)[1] for a, b in zip(picture, reference, strict=True)]
    values = np.stack(maps)[:, region & inner].astype(np.float64)
    return float(values.mean()) if values.size else nan
