"""The contrast of a video's relation with those of videos seen before: their features wait in two banks, oldest out.

Banks are buffers: a training that goes on finds them as they were.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from saccade.papers.dreamrelation.losses import (
    TEMPERATURE,
    Similarity,
    appearance,
    contrastive_loss,
    dynamics,
)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Options of the contrastive loss.

    positives, negatives          at most so many of each for an anchor; the own frames count as negatives, all of them
    positive_bank, negative_bank  videos and single frames that are kept; 10 and 64 as released
    Raises ValueError for options out of range.
    """

    positives: int = 4
    negatives: int = 10
    positive_bank: int = 10
    negative_bank: int = 64
    temperature: float = TEMPERATURE
    similarity: Similarity = "cosine"

    def __post_init__(self) -> None:
        for name in ("positives", "positive_bank", "negative_bank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.negatives < 0:
            raise ValueError(f"negatives={self.negatives} must not be negative")


class FifoBank(nn.Module):
    """The last `capacity` rows that were pushed, each of `shape`; without gradients.

    Raises ValueError for a capacity below 1.
    """

    rows: Tensor
    pushed: Tensor

    def __init__(self, capacity: int, *shape: int) -> None:
        super().__init__()
        if capacity < 1:
            raise ValueError(f"capacity={capacity} must be at least 1 row")
        self.capacity = capacity
        self.register_buffer("rows", torch.zeros(capacity, *shape))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        return min(int(self.pushed), self.capacity)

    @property
    def newest_last(self) -> Float[Tensor, "n ..."]:
        """What is kept, the oldest first."""
        start = int(self.pushed) % self.capacity if len(self) == self.capacity else 0
        return self.rows[: len(self)].roll(-start, 0)

    @torch.no_grad()
    def push(self, rows: Float[Tensor, "n ..."]) -> None:
        """Take rows in order. Raises ValueError for rows of another shape than those kept."""
        if rows.shape[1:] != self.rows.shape[1:]:
            raise ValueError(
                f"rows of {tuple(rows.shape[1:])} do not fit a bank of {tuple(self.rows.shape[1:])}: positives are "
                "compared frame by frame, so all videos must have as many latent frames"
            )
        for row in rows.detach():
            self.rows[int(self.pushed) % self.capacity] = row
            self.pushed += 1

    def draw(self, count: int, times: int) -> Float[Tensor, "times n ..."]:
        """`times` draws of at most `count` rows, each without repetition, from torch's own generator."""
        kept = self.rows[: len(self)]
        number = min(count, len(kept))
        chosen = [torch.randperm(len(kept))[:number] for _ in range(times)]
        return kept[torch.stack(chosen).to(kept.device)] if chosen else kept.new_zeros(0, number, *kept.shape[1:])


class RelationalContrast(nn.Module):
    """The loss of a prediction against the banks, which then take it in.

    frames, channels   of the latents of all videos
    Raises ValueError for fewer than two latent frames.
    """

    def __init__(self, frames: int, channels: int, options: Contrast | None = None) -> None:
        super().__init__()
        if frames < 2:
            raise ValueError(f"frames={frames} latent frames have no differences; the contrast is for videos")
        self.options = options or Contrast()
        self.relations = FifoBank(self.options.positive_bank, frames - 1, channels)
        self.frames = FifoBank(self.options.negative_bank, channels)

    def forward(self, predicted: Float[Tensor, "b c f h w"]) -> Float[Tensor, ""] | None:
        """The mean over the videos of a batch, None while no video was seen before; each counts for those after it.

        Raises ValueError for videos of other sizes than the banks'.
        """
        losses = [loss for video in predicted if (loss := self._one(video)) is not None]
        return torch.stack(losses).mean() if losses else None

    def _one(self, video: Float[Tensor, "c f h w"]) -> Tensor | None:
        features = appearance(video)
        changes = dynamics(features)
        if tuple(changes.shape) != tuple(self.relations.rows.shape[1:]):
            raise ValueError(
                f"a video of {len(features)} latent frames cannot be compared, frame by frame, with those of "
                f"{self.relations.rows.shape[1] + 1} in the bank; train on videos of one length"
            )
        loss = self._against_banks(features, changes) if len(self.relations) else None
        self.relations.push(changes[None])
        self.frames.push(features)
        return loss

    def _against_banks(self, features: Float[Tensor, "f c"], changes: Float[Tensor, "a c"]) -> Tensor:
        said, anchors = self.options, len(changes)
        stored = self.relations.draw(said.positives, anchors)  # (a p f-1 c)
        own = torch.arange(anchors, device=stored.device)
        more: Any = self.frames.draw(max(said.negatives - len(features), 0), anchors)
        negatives = torch.cat((features.expand(anchors, -1, -1), more), dim=1)
        return contrastive_loss(
            changes, stored[own, :, own], negatives, temperature=said.temperature, similarity=said.similarity
        )
