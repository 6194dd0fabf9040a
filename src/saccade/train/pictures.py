"""Scenes as tensors: drawn, rendered, and back."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from saccade.data.scenes import Scene, Split, render, sample


def scenes(n: int, *, seed: int, counts: tuple[int | None, ...] = (None,), split: Split = "train") -> list[Scene]:
    """`n` scenes, scene i from `(seed, i)` alone; `counts` (things, None: any) are taken in turn."""
    return [sample(np.random.default_rng([seed, i]), count=counts[i % len(counts)], split=split) for i in range(n)]


def pictures(drawn: Sequence[Scene], size: int) -> UInt8[np.ndarray, "b h w 3"]:
    """Every scene at `size` pixels."""
    return np.stack([render(scene, size) for scene in drawn])


def to_tensor(images: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b 3 h w"]:
    """Bytes to [-1, 1], the range of autoencoders."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_bytes(images: Float[Tensor, "b 3 h w"]) -> UInt8[np.ndarray, "b h w 3"]:
    """[-1, 1] to bytes, clipped."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
