"""Pictures and videos as bytes and as tensors in [-1, 1]."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def to_tensor(images: UInt8[np.ndarray, "b *t h w c"]) -> Float[Tensor, "b c *t h w"]:
    """Bytes to [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).movedim(-1, 1).float() / 127.5 - 1


def to_bytes(images: Float[Tensor, "b c *t h w"]) -> UInt8[np.ndarray, "b *t h w c"]:
    """[-1, 1] to bytes, clipped. Raises ValueError for NaN, which no colour stands for."""
    check_finite(images)
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, -1).cpu().numpy()


def check_finite(images: Float[Tensor, "b c *t h w"]) -> None:
    """Raise ValueError naming the first picture that holds NaN or infinity."""
    broken = (~images.isfinite().flatten(1).all(1)).nonzero()
    if len(broken):
        raise ValueError(
            f"picture {int(broken[0])} of {len(images)} holds NaN or infinity; draw in float32, or look for them in "
            "the model's weights and input"
        )
