"""Captions of boxes as vectors, by the text encoders of a pipeline.

SD3 has one vector for a caption, the pooled outputs of both CLIP encoders side by side; FLUX one for each word, by T5.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from saccade.core.checks import check_whole
from saccade.papers.siamlayout.boxes import SLOTS, CaptionedBox, LayoutBatch

WORDS, PADDED = 30, 77  # T5 tokens of a caption that are kept, of those it is padded to


@torch.no_grad()
def encode_layout(
    pipe: Any,
    layouts: Sequence[Sequence[CaptionedBox]],
    *,
    slots: int = SLOTS,
    words: int = WORDS,
    padded: int = PADDED,
) -> LayoutBatch:
    """The boxes of each picture, encoded as the adapter takes them.

    pipe    a StableDiffusion3Pipeline or FluxPipeline
    slots   to which boxes are padded; the released models know 10
    words   kept of each caption for FLUX, of `padded` tokens; padding counts as words
    Raises ValueError for another pipeline, options out of range, and more boxes than slots.
    """
    check_whole(1, slots=slots, words=words, padded=padded)
    names = {cls.__name__ for cls in type(pipe).__mro__}
    if "FluxPipeline" in names:
        return LayoutBatch.of(layouts, [_words(pipe, own, words, padded) for own in layouts], slots=slots)
    if "StableDiffusion3Pipeline" in names:
        return LayoutBatch.of(layouts, [_pooled(pipe, own) for own in layouts], slots=slots)
    raise ValueError(f"pipe={type(pipe).__name__} must be a FluxPipeline or StableDiffusion3Pipeline")


def _words(pipe: Any, boxes: Sequence[CaptionedBox], words: int, padded: int) -> Float[Tensor, "k w c"]:
    captions = [each.caption for each in boxes] or [""]
    found = pipe._get_t5_prompt_embeds(prompt=captions, max_sequence_length=padded)
    return found[: len(boxes), :words]


def _pooled(pipe: Any, boxes: Sequence[CaptionedBox]) -> Float[Tensor, "k c"]:
    captions = [each.caption for each in boxes] or [""]
    found = [pipe._get_clip_prompt_embeds(prompt=captions, clip_model_index=i)[1] for i in range(2)]
    return torch.cat(found, dim=-1)[: len(boxes)]
