"""What an edit is asked for, as plain values and arrays: checked once, a round of its record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import Image

from saccade.analysis.layers import LayerSets
from saccade.core.checks import check_numbers, check_sizes, check_whole
from saccade.core.site import Where
from saccade.data.rgb import as_picture
from saccade.metrics.fidelity import Picture
from saccade.papers.consistedit import check_strength
from saccade.papers.freeflux import AddObject, KeepRegion, Reshape

Kind = AddObject | Reshape | KeepRegion
Mask = Shaped[np.ndarray, "h w"]
STRENGTH, STRENGTH_OF_PICTURE = 1.0, 0.1  # the paper's: inverted noise still holds the picture's structure


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """All arguments of `edit`, which explains them, but for the pipeline; of one round.

    source     a prompt; None for a picture, and in a round that goes on from the one before
    picture    (1 h w 3) in [0, 1]
    mask       as it was given, on image tokens or on pixels
    strengths  one for each region
    layers     by what they hang on, for a kind of edit
    segmented  what `segment` made of the word's region, on pixels
    systems    as text, one each
    Raises ValueError for what does not fit together.
    """

    source: str | None
    picture: Picture | None
    prompt: str | None
    target: str
    words: tuple[str, ...]
    mask: Mask | None
    strengths: tuple[float, ...]
    kind: Kind | None
    layers: LayerSets | None
    segmented: Mask | None = None
    threshold: float | None
    smooth: int
    watch: Where | None
    where: Where | None
    steps: int
    seed: int
    guidance: float | None
    height: int | None
    width: int | None
    text_tokens: int | None
    systems: tuple[str, ...]
    keep: bool

    def __post_init__(self) -> None:
        check_whole(1, steps=self.steps)
        check_whole(0, seed=self.seed)
        check_sizes(height=self.height, width=self.width, text_tokens=self.text_tokens)
        check_numbers(threshold=self.threshold, guidance=self.guidance)
        if self.smooth < 1 or self.smooth % 2 == 0:
            raise ValueError(f"smooth={self.smooth} must be an odd number of tokens, 1 for none")
        if self.threshold is not None and not 0 <= self.threshold < 1:
            raise ValueError(f"threshold={self.threshold} must be in [0, 1); higher edits less")
        if self.words and self.mask is not None:
            raise ValueError("word and mask both say where to edit; give one of them")
        for name in ("target", *(("source",) if self.source is not None else ())):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}='' says nothing of the picture; describe it, as 'a red circle on white'")
        if self.picture is not None and self.prompt is None:
            raise ValueError("prompt=None says nothing of the picture; describe it, as prompt='a red circle on white'")
        if len(self.strengths) != (count := max(len(self.words), 1)):
            raise ValueError(
                f"strength={self.strengths} gives {len(self.strengths)} values for {count} regions; give one, or one "
                "for each"
            )
        for value in self.strengths:
            check_numbers(strength=value)
            check_strength(value)

    @property
    def goes_on(self) -> bool:
        """Whether the round before is its source."""
        return self.source is None and self.picture is None


def request(
    source: object,
    *,
    word: str | Sequence[str] | None,
    mask: Any,
    strength: float | Sequence[float] | None,
    **rest: Any,
) -> Request:
    """From what people give: any picture, one word or several, one number for all regions, or none.

    Raises ValueError as `Request` does.
    """
    pictured = isinstance(source, Image.Image | np.ndarray)
    words = (word,) if isinstance(word, str) else tuple(word or ())
    own = STRENGTH_OF_PICTURE if pictured else STRENGTH
    shares = own if strength is None else strength
    return Request(
        source=source if isinstance(source, str) else None,
        picture=as_picture(source) if pictured else None,
        words=words,
        mask=None if mask is None else np.asarray(mask),
        strengths=(shares,) * max(len(words), 1) if isinstance(shares, str | float | int) else tuple(shares),
        **rest,
    )
