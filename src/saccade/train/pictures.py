"""Scenes as tensors: drawn, rendered, and back."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from saccade.data.pixels import to_bytes as to_bytes
from saccade.data.pixels import to_tensor as to_tensor
from saccade.data.scenes import Scene, Split, render, sample


def scenes(n: int, *, seed: int, counts: tuple[int | None, ...] = (None,), split: Split = "train") -> list[Scene]:
    """`n` scenes, scene i from `(seed, i)` alone; `counts` (things, None: any) are taken in turn."""
    return [sample(np.random.default_rng([seed, i]), count=counts[i % len(counts)], split=split) for i in range(n)]


def pictures(drawn: Sequence[Scene], size: int) -> UInt8[np.ndarray, "b h w 3"]:
    """Every scene at `size` pixels."""
    return np.stack([render(scene, size) for scene in drawn])
