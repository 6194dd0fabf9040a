"""LPIPS (Zhang et al. 2018, arXiv 1801.03924), where its network's weights lie on this machine already.

Nothing is ever downloaded: a score that needs weights which are not here is left out, and the reason reported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

WEIGHTS = "alexnet-owt-7be5be79.pth"


@dataclass(frozen=True, kw_only=True)
class Perceptual:
    """`judge(picture, reference)`, or None and the `reason`."""

    judge: Callable[[np.ndarray, np.ndarray], float] | None = None
    reason: str = ""


def perceptual() -> Perceptual:
    """LPIPS on AlexNet, if it can be had offline."""
    if missing := [name for name in ("torchmetrics", "torchvision") if find_spec(name) is None]:
        return Perceptual(reason=f"LPIPS is left out: {' and '.join(missing)} not installed")
    from torch.hub import get_dir

    weights = Path(get_dir()) / "checkpoints" / WEIGHTS
    if not weights.is_file():
        return Perceptual(reason=f"LPIPS is left out: no weights (AlexNet's {WEIGHTS} is not in torch's hub folder)")
    return Perceptual(judge=_judge())


def _judge() -> Callable[[np.ndarray, np.ndarray], float]:
    import torch
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network = LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)

    def judge(picture: np.ndarray, reference: np.ndarray) -> float:
        frames = (torch.from_numpy(x).float().movedim(-1, 1) for x in (picture, reference))
        with torch.no_grad():
            return float(network(*frames))

    return judge
