"""Input embeddings: timestep, class label, patches.

Source: Peebles & Xie, DiT (2023).
"""

from math import log

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

FREQUENCIES = 128
SLOWEST = 10000.0


def sinusoid(t: Float[Tensor, " b"]) -> Float[Tensor, "b 256"]:
    """[cos | sin] of t times 128 frequencies from 1 down to nearly 1/10000."""
    rates = torch.exp(-log(SLOWEST) * torch.arange(FREQUENCIES, device=t.device) / FREQUENCIES)
    angles = t.float()[:, None] * rates
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class TimeEmbedding(nn.Module):
    """Sinusoid, then two layers; `scale` multiplies the time first (1000 puts [0, 1] on DDPM's scale)."""

    steering: bool = True  # AdamW trains its matrices

    def __init__(self, width: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.inner, self.outer = nn.Linear(2 * FREQUENCIES, width), nn.Linear(width, width)
        for layer in (self.inner, self.outer):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, t: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        wave = sinusoid(t * self.scale).to(self.inner.weight.dtype)
        return self.outer(nn.functional.silu(self.inner(wave)))


class LabelEmbedding(nn.Module):
    """One row a class, and a last one, number `classes`, for "no class"."""

    steering: bool = True  # AdamW trains its matrices

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, labels: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        if labels.device.type == "cpu" and not torch.compiler.is_compiling():  # a GPU's own check costs no wait
            self._check(labels)
        return self.table(labels)

    def _check(self, labels: Int[Tensor, " b"]) -> None:
        wrong = labels[(labels < 0) | (labels > self.classes)]
        if len(wrong):
            raise ValueError(f"label {int(wrong[0])} is outside 0 to {self.classes}; {self.classes} means no class")


class Patchify(nn.Module):
    """Patches of `patch` x `patch` pixels to tokens, row-major."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.conv = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n d"]:
        """Patches as tokens; raises ValueError for sides that are no multiples of the patch."""
        if any(side % self.patch for side in x.shape[-2:]):
            raise ValueError(f"sides {tuple(x.shape[-2:])} of x must be multiples of patch={self.patch}")
        return self.conv(x).flatten(2).mT


def unpatchify(tokens: Float[Tensor, "b n k"], grid: tuple[int, int], patch: int) -> Float[Tensor, "b c h w"]:
    """Tokens back to a picture; a token holds its patch as (row, column, channel).

    Raises ValueError for tokens that do not fill the grid.
    """
    if tokens.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"{tokens.shape[1]} tokens do not fill grid={grid}")
    cells = tokens.unflatten(1, grid).unflatten(-1, (patch, patch, -1))
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)
