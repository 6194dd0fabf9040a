"""The scores of one edit: what changed is right, the rest is untouched, the structure is kept (PIE-Bench's set).

What needs weights is asked of judges that are handed in; without one the score is None.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from math import isnan

import numpy as np
from jaxtyping import Float

from saccade.metrics.edges import canny_ssim
from saccade.metrics.fidelity import Judge, Picture, check_shapes
from saccade.metrics.intervals import Interval, t_interval
from saccade.metrics.regions import Region, blanked, check_region, painted, within

Features = Callable[[Picture], Float[np.ndarray, "n c"]]  # one vector a patch, such as DINO's keys
TextJudge = Callable[[Picture, str], float]  # how well a picture shows a text, such as CLIP's cosine times 100


@dataclass(frozen=True, kw_only=True)
class Judges:
    """Networks that score: LPIPS of two pictures, features for structure, agreement of a picture with a text."""

    lpips: Judge | None = None
    features: Features | None = None
    text: TextJudge | None = None


@dataclass(frozen=True, kw_only=True)
class EditScores:
    """Scores of one edit; None where no judge was given, nan where a region is empty.

    canny_ssim            similarity of the edges of both pictures, 1 for equal
    structure_distance    of self-similarities, 0 for equal
    psnr, ssim, mse       outside the edited region, both pictures black inside it, as PIE-Bench has them
    lpips                 the same, by the judge
    kept_psnr, kept_mse   means over the pixels outside alone
    text, text_edited     agreement of the edit with the target prompt: whole, and black outside the edited region
    """

    canny_ssim: float
    psnr: float
    ssim: float
    mse: float
    kept_psnr: float
    kept_mse: float
    structure_distance: float | None = None
    lpips: float | None = None
    text: float | None = None
    text_edited: float | None = None


def score_edit(
    source: Picture, edit: Picture, edited: Region, prompt: str, *, judges: Judges | None = None
) -> EditScores:
    """All scores of `edit` against `source`; `edited` is True where the edit may change the picture."""
    check_region(edit, source, edited)
    judges = judges or Judges()
    frame, kept = blanked(edit, source, ~edited), within(edit, source, ~edited)
    away = (painted(edit, ~edited), painted(source, ~edited))
    return EditScores(
        canny_ssim=canny_ssim(edit, source),
        psnr=frame.psnr,
        ssim=frame.ssim,
        mse=frame.mse,
        kept_psnr=kept.psnr,
        kept_mse=kept.mse,
        structure_distance=None if judges.features is None else structure_distance(edit, source, judges.features),
        lpips=None if judges.lpips is None else judges.lpips(*away),
        text=None if judges.text is None else judges.text(edit, prompt),
        text_edited=None if judges.text is None else judges.text(painted(edit, edited), prompt),
    )


def structure_distance(picture: Picture, reference: Picture, features: Features) -> float:
    """Mean squared difference of the two pictures' maps of cosine similarity between patches (Splice, 2201.00424).

    Raises ValueError where the features of the two pictures differ in patches.
    """
    check_shapes(picture, reference)
    maps = [_self_similarity(features(one)) for one in (picture, reference)]
    if maps[0].shape != maps[1].shape:
        raise ValueError(f"features gave {len(maps[0])} and {len(maps[1])} patches for pictures of one size")
    return float(np.mean((maps[0] - maps[1]) ** 2))


def summarise_edits(scores: Sequence[EditScores]) -> dict[str, Interval]:
    """Mean and interval of each score that was measured, over the edits where it is a finite number."""
    columns = {f.name: [getattr(score, f.name) for score in scores] for f in fields(EditScores)}
    known = {name: [v for v in values if v is not None and not isnan(v)] for name, values in columns.items()}
    return {name: t_interval(values) for name, values in known.items() if np.isfinite(values).any()}


def _self_similarity(vectors: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n n"]:
    x = vectors.astype(np.float64)
    x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    return x @ x.T
