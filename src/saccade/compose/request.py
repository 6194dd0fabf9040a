"""What a composition is asked for, as plain values and arrays: checked once, kept in its record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float

from saccade.core.checks import check_numbers, check_sizes, check_whole, check_word, seeds_of
from saccade.data.rgb import as_picture
from saccade.mechanisms.canvas import Unit
from saccade.metrics.fidelity import Picture
from saccade.pipelines.references import ReferenceSize

PaddedText = Literal["hub", "isolated", "dropped"]
Compat = Literal["official"]
Corners = tuple[float, float, float, float]
Array = Float[np.ndarray, "h w"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """All arguments of `compose`, which explains them, but for the pipeline; one entry of a tuple for each entity.

    systems  as text, one each
    Raises ValueError for what does not fit together.
    """

    texts: tuple[str, ...]
    boxes: tuple[Corners | None, ...]
    masks: tuple[Array | None, ...]
    references: tuple[Picture | None, ...]
    strengths: tuple[float, ...]
    apart: tuple[tuple[int, ...], ...]
    interaction: str
    unit: Unit | None
    reference_size: ReferenceSize
    first_stage: float
    padding: PaddedText
    compat: Compat | None
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float | None
    height: int | None
    width: int | None
    text_tokens: int | None

    def __post_init__(self) -> None:
        count = len(self.texts)
        if count == 0:
            raise ValueError("texts=() name nothing to compose; give a text for each entity")
        for name in ("boxes", "masks", "references", "strengths", "apart"):
            if len(getattr(self, name)) != count:
                raise ValueError(
                    f"{name} holds {len(getattr(self, name))} entries for {count} texts; give one for each"
                )
        for text, box, mask in zip(self.texts, self.boxes, self.masks, strict=True):
            if box is not None and mask is not None:
                raise ValueError(f"'{text}' has a box and a mask; give one of them")
            if mask is not None and (mask.ndim != 2 or not 0 <= mask.min() <= mask.max() <= 1):
                raise ValueError(f"the mask of '{text}', {mask.shape}, must be (h w) in [0, 1]")
        if not all(isinstance(text, str) for text in (*self.texts, self.interaction)):
            raise ValueError(f"texts={self.texts} and interaction={self.interaction!r} must be texts")
        check_word(("hub", "isolated", "dropped"), padding=self.padding)
        if self.unit is not None:
            check_word(get_args(Unit), unit=self.unit)
        check_numbers(first_stage=self.first_stage, guidance=self.guidance)
        for strength in self.strengths:
            check_numbers(strengths=strength)
        check_whole(1, steps=self.steps)
        check_sizes(height=self.height, width=self.width, text_tokens=self.text_tokens)
        if self.compat not in (None, "official"):
            raise ValueError(f"compat='{self.compat}' must be 'official' or None")


def request(
    texts: Sequence[str],
    *,
    boxes: Sequence[Sequence[float] | None] | None,
    masks: Sequence[Any] | None,
    references: Sequence[Any] | None,
    strengths: float | Sequence[float],
    apart: Mapping[int, Sequence[int]] | None,
    seeds: int | Sequence[int],
    **rest: Any,
) -> Request:
    """From what people give: nothing for none, one number for all. Raises ValueError as `Request` does."""
    if isinstance(texts, str):
        raise ValueError(f"texts='{texts}' must be a text for each entity, as ('a red circle', 'a blue square')")
    none = (None,) * len(texts)
    if wrong := [one for one in (apart or {}).items() if not isinstance(one[1], tuple | list)]:
        raise ValueError(f"apart={dict(wrong)} must name entities from each, as {{0: (1,)}}")
    if unknown := [number for number in apart or {} if number not in range(len(texts))]:
        raise ValueError(f"apart={apart} names entity {unknown[0]}, and there are {len(texts)}, counted from 0")
    return Request(
        texts=tuple(texts),
        boxes=tuple(None if box is None else corners(box) for box in boxes or none),
        masks=tuple(None if m is None else np.asarray(m, dtype=np.float32) for m in (none if masks is None else masks)),
        references=tuple(None if picture is None else as_picture(picture) for picture in references or none),
        strengths=(float(strengths),) * len(texts) if isinstance(strengths, int | float) else tuple(strengths),
        apart=tuple(tuple((apart or {}).get(number, ())) for number in range(len(texts))),
        seeds=seeds_of(seeds),
        **rest,
    )


def corners(box: Sequence[float]) -> Corners:
    """Four plain numbers, whole ones kept whole. Raises ValueError for another number of them."""
    if len(box) != 4:
        raise ValueError(f"box={tuple(box)} must be four numbers, x0, y0, x1, y1")
    x0, y0, x1, y1 = (value if isinstance(value, int) else float(value) for value in box)
    return x0, y0, x1, y1
