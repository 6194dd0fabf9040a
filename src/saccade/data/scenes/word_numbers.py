"""Captions of scenes as numbers of their words, for small models without a text encoder."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from saccade.data.scenes.words import Prompt, vocabulary

WORDS = 16  # of the longest caption of one thing
IDS = {word: number for number, word in enumerate(vocabulary())}
PADDING = len(IDS)


def word_numbers(prompts: Sequence[Prompt], words: int = WORDS) -> Int[Tensor, "n words"]:
    """Captions as numbers, padded to `words`.

    Raises ValueError for a caption that is longer.
    """
    rows = [[IDS[word] for word in prompt.text.split()] for prompt in prompts]
    for row, prompt in zip(rows, prompts, strict=True):
        if len(row) > words:
            raise ValueError(f"caption '{prompt.text}' has {len(row)} words; give at least so many, not words={words}")
    return torch.tensor([row + [PADDING] * (words - len(row)) for row in rows])
