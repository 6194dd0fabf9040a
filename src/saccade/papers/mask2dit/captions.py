"""The text of n scenes: one caption each, padded to one length, in a row."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor

from saccade.seam.around import Forward, around


def in_a_row(words: Float[Tensor, "r t c"], scenes: int) -> Float[Tensor, "b n c"]:
    """Embedded captions, those of the first video first, as one text for each video.

    Raises ValueError where they are no whole number of videos.
    """
    if scenes < 1 or len(words) % scenes:
        raise ValueError(f"{len(words)} captions are no whole number of videos of scenes={scenes}; give one a scene")
    return words.unflatten(0, (-1, scenes)).flatten(1, 2)


@contextmanager
def captions_apart(transformer: Any, scenes: int) -> Iterator[None]:
    """Let HunyuanVideo's token refiner read each of `scenes` captions by itself, as its joint blocks then do.

    Its joint blocks take padding for the end of the whole text, so every token counts: the mask must be all ones.
    Raises ValueError for a model without a refiner; in a forward, for text that is no such captions, and for padding.
    """
    if not hasattr(transformer, "context_embedder"):
        raise ValueError(f"{type(transformer).__name__} has no token refiner, so its captions are apart already")

    def apart(own: Forward, words: Tensor, timestep: Tensor, mask: Tensor | None = None) -> Tensor:
        if words.shape[1] % scenes:
            raise ValueError(f"the text has {words.shape[1]} tokens, no multiple of scenes={scenes}; pad every caption")
        if mask is not None and not bool(mask.all()):
            raise ValueError("the text's mask hides padding, which stands inside the row of captions; give all ones")
        folded = words.unflatten(1, (scenes, -1)).flatten(0, 1)
        every = None if mask is None else mask.unflatten(1, (scenes, -1)).flatten(0, 1)
        return in_a_row(own(folded, timestep.repeat_interleave(scenes), every), scenes)

    undo = around(transformer.context_embedder, apart)
    try:
        yield
    finally:
        undo()
