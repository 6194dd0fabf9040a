"""Scenes and videos as tensors: drawn, rendered, and back."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from saccade.data.pixels import to_bytes as to_bytes
from saccade.data.pixels import to_tensor as to_tensor
from saccade.data.scenes import Scene, Split, Video, render, render_video, sample, sample_video


def scenes(n: int, *, seed: int, counts: tuple[int | None, ...] = (None,), split: Split = "train") -> list[Scene]:
    """`n` scenes, scene i from `(seed, i)` alone; `counts` (things, None: any) are taken in turn."""
    return [sample(np.random.default_rng([seed, i]), count=counts[i % len(counts)], split=split) for i in range(n)]


def pictures(drawn: Sequence[Scene], size: int) -> UInt8[np.ndarray, "b h w 3"]:
    """Every scene at `size` pixels."""
    return np.stack([render(scene, size) for scene in drawn])


def videos(
    n: int, *, seed: int, frames: int, counts: tuple[int | None, ...] = (None,), split: Split = "train"
) -> list[Video]:
    """`n` videos, video i from `(seed, i)` alone; `counts` (things, None: any) are taken in turn."""
    draws = ((np.random.default_rng([seed, i]), counts[i % len(counts)]) for i in range(n))
    return [sample_video(rng, count=count, frames=frames, split=split) for rng, count in draws]


def clips(drawn: Sequence[Video], size: int) -> UInt8[np.ndarray, "b t h w 3"]:
    """Every video, all of one length, at `size` pixels."""
    return np.stack([render_video(video, size) for video in drawn])
