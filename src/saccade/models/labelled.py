"""Class labels and word numbers for models conditioned on embedded words."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from saccade.models.architecture import Prediction
from saccade.nn.embedders import LabelEmbedding


class LabelWords(nn.Module):
    """A model conditioned on words, called as `forward(x, t, labels)`: each label is `tokens` learned words of `width`.

    Label `classes` means none, and has words of its own.
    Raises ValueError for sizes below 1.
    """

    def __init__(self, model: nn.Module, classes: int, *, tokens: int = 16, width: int) -> None:
        super().__init__()
        if tokens < 1 or width < 1:
            raise ValueError(f"tokens={tokens} and width={width} of the words must be at least 1")
        self.model, self.tokens = model, tokens
        self.label = LabelEmbedding(classes, tokens * width)

    @property
    def config(self) -> Any:
        """The model's."""
        return self.model.config

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], labels: Int[Tensor, " b"]) -> Prediction:
        words = self.label(labels).unflatten(-1, (self.tokens, -1))
        return self.model(x, t, words)


class LearnedWords(nn.Module):
    """Captions as word numbers, embedded: a row for each of `count` words, added to one for each of `tokens` places.

    Number `count` is padding; a caption of nothing but padding says nothing. For small runs without a text encoder.
    """

    def __init__(self, count: int, *, tokens: int = 16, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.word = LabelEmbedding(count, width)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, width))

    def forward(self, ids: Int[Tensor, "b m"]) -> Float[Tensor, "b m k"]:
        """Embed; raises ValueError for rows of another length."""
        if ids.shape[1] != self.tokens:
            raise ValueError(f"ids of shape {tuple(ids.shape)} must have tokens={self.tokens} a row; pad with the last")
        return self.word(ids.flatten()).unflatten(0, ids.shape) + self.place


class TokenWords(nn.Module):
    """A model conditioned on words, called as `forward(x, t, ids)` with word numbers, see `LearnedWords`."""

    def __init__(self, model: nn.Module, count: int, *, tokens: int = 16, width: int) -> None:
        super().__init__()
        self.model, self.words = model, LearnedWords(count, tokens=tokens, width=width)

    def forward(self, x: Float[Tensor, "b c h w"], t: Float[Tensor, " b"], ids: Int[Tensor, "b m"]) -> Prediction:
        return self.model(x, t, self.words(ids))
