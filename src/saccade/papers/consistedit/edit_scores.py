"""Scores of edited scenes, by the exact parser: was the edit made, is the outline kept, is all else untouched."""

from typing import Any

import numpy as np
from jaxtyping import Bool
from torch import Tensor

from saccade.data import scenes
from saccade.experiments import Row
from saccade.metrics.edges import canny_ssim
from saccade.metrics.regions import within
from saccade.papers.consistedit.edits import TOKEN, Batch, Case, Kind, Pictures, tokens_of

SHARES, BEST_PSNR = ("made", "colour", "all"), 99.0


def score(kind: Kind, pictures: Pictures, batch: Batch) -> list[Row]:
    """A row for each edit."""
    found = zip(pictures, batch.sources, batch.cases, batch.objects, strict=True)
    return [_score(kind, *each) for each in found]


def _score(kind: Kind, picture: Pictures, source: Pictures, case: Case, seen: Any) -> Row:
    place = np.kron(tokens_of(seen), np.ones((TOKEN, TOKEN), bool))
    here = [other for other in scenes.parse(picture).things if (other.mask & place).any()]
    outline = np.any([other.mask for other in here], axis=0) if here else np.zeros_like(place)
    kept, want = within(picture[None], source[None], ~place), case.target.wants[0]
    return {
        "made": float(any(getattr(other, kind) == case.wanted for other in here)),
        "colour": float(any(other.colour == want.colour for other in here)),
        "all": float(scenes.judge(picture, case.target).all),
        "iou": iou(outline, seen.mask),
        "canny_ssim": canny_ssim(picture[None], source[None]),
        "kept_psnr": min(kept.psnr, BEST_PSNR),
        "kept_ssim": kept.ssim,
    }


def overlaps(masks: Bool[Tensor, "s 1 h w"], exact: Bool[Tensor, "s 1 h w"]) -> list[float]:
    """How well masks agree with the exact ones, edit by edit."""
    return [iou(a[0].numpy(), b[0].numpy()) for a, b in zip(masks, exact, strict=True)]


def iou(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    """Intersection over union."""
    return float((a & b).sum() / max((a | b).sum(), 1))
