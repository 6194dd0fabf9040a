"""What an insertion is asked for, as plain values and arrays: checked once, kept in its record."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from saccade.core.checks import check_numbers, check_sizes, check_truths, check_whole, check_word, seeds_of
from saccade.data.rgb import as_picture
from saccade.mechanisms.canvas import Box, Size
from saccade.metrics.fidelity import Picture
from saccade.papers.in_context_brush.context_shift import Rows
from saccade.papers.in_context_brush.diptych import Detect, Mask, Segment, check_mask, cut_out
from saccade.papers.in_context_brush.system import Compat, InContextBrush
from saccade.pipelines.latents import MaskRule

Words = Literal["all", "real"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """All arguments of `insert`, which explains them, but for the pipeline and what finds the subject.

    subject_mask  None where the whole picture is the subject
    mask          on pixels of `into`
    systems       as text, one each
    Raises ValueError for what does not fit together.
    """

    subject: Picture
    subject_mask: Mask | None
    into: Picture
    mask: Mask
    prompt: str
    alpha_text: float
    alpha_demo: float
    beta: float
    rows: Rows
    compat: Compat | None
    blend: bool
    mask_rule: MaskRule
    words: Words
    systems: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int
    guidance: float | None
    height: int | None
    width: int | None
    text_tokens: int | None

    def __post_init__(self) -> None:
        for name, mask, picture in (("mask", self.mask, self.into), ("subject_mask", self.subject_mask, self.subject)):
            if mask is not None:
                _checked(name, mask, picture)
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise ValueError("prompt='' says nothing of the result; describe it, as 'a barn in the snow'")
        check_word(get_args(Words), words=self.words)
        check_word(get_args(MaskRule), mask_rule=self.mask_rule)
        check_truths(blend=self.blend)
        check_numbers(guidance=self.guidance)
        check_whole(1, steps=self.steps)
        check_sizes(height=self.height, width=self.width, text_tokens=self.text_tokens)
        self.system()

    def system(self, words: tuple[int, ...] | None = None) -> InContextBrush:
        """What attaches. Raises ValueError for options out of range."""
        return InContextBrush(
            alpha_text=self.alpha_text, alpha_demo=self.alpha_demo, beta=self.beta, rows=self.rows,
            compat=self.compat, words=words,
        )  # fmt: skip


def request(
    subject: Any,
    into: Any,
    mask: Any,
    *,
    subject_mask: Any,
    phrase: str | None,
    detect: Detect | None,
    segment: Segment | None,
    seeds: Any,
    **rest: Any,
) -> Request:
    """From what people give: any pictures, a box for a mask, a phrase and what finds it for a subject's mask.

    Raises ValueError as `Request` does, and for a subject that is not found.
    """
    shown, target = as_picture(subject), as_picture(into)
    return Request(
        subject=shown,
        subject_mask=_subject_mask(shown, subject_mask, phrase, detect, segment),
        into=target,
        mask=as_mask(mask, target.shape[1:3]),
        seeds=seeds_of(seeds),
        **rest,
    )


def as_mask(given: Any, size: Size) -> Mask:
    """In [0, 1], of a PIL image, of an array (h w) of truths, bytes or floats, or of a box x0, y0, x1, y1.

    Raises ValueError for a box without area or beyond the picture.
    """
    if isinstance(given, Image.Image):
        given = np.asarray(given.convert("L"))
    if isinstance(given, tuple | list) and len(given) == 4 and all(isinstance(x, int | float) for x in given):
        return Box.parse(given, size).on_cells(size).numpy()
    array = np.asarray(given)
    return array.astype(np.float32) / np.float32(255 if array.dtype == np.uint8 else 1)


def _subject_mask(
    picture: Picture, mask: Any, phrase: str | None, detect: Detect | None, segment: Segment | None
) -> Mask | None:
    finders = [finder is not None for finder in (phrase, detect, segment)]
    if mask is not None and any(finders):
        raise ValueError("subject_mask and phrase, detect and segment both say what the subject is; give one of them")
    if any(finders) and not all(finders):
        raise ValueError("phrase, detect and segment find a subject together; give all three, or subject_mask")
    if phrase is not None and detect is not None and segment is not None:
        return cut_out(picture, phrase, detect, segment)
    return None if mask is None else as_mask(mask, picture.shape[1:3])


def _checked(name: str, mask: Mask, picture: Picture) -> None:
    try:
        check_mask(mask, picture.shape[1:3])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
