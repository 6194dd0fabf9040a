"""What a drag is asked for, as plain values and a picture: checked once, kept in its record."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from saccade.core.checks import check_numbers, check_sizes, check_truths, check_whole
from saccade.mechanisms.canvas import Box, Size
from saccade.metrics.fidelity import Picture
from saccade.papers.diffuhaul.blobs import Blob, Blobs
from saccade.papers.diffuhaul.buckets import FreshNoise, check_buckets
from saccade.papers.diffuhaul.system import DiffUHaul


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """All arguments of `drag`, which explains them, but for the pipeline; objects are found, the dragged one first.

    picture  None where the source is drawn from the prompt
    systems  as text, one each
    Raises ValueError for what does not fit together.
    """

    picture: Picture | None
    prompt: str
    target_prompt: str
    source: Blobs
    target: Blobs
    masked: bool
    share: bool
    schedule: str | None
    kappa: float
    tau: float
    nearest: bool
    carry: bool
    blend: bool
    dilation: int
    buckets: int
    fresh_noise: FreshNoise
    systems: tuple[str, ...]
    seed: int
    steps: int
    guidance: float
    height: int
    width: int
    text_tokens: int | None

    def __post_init__(self) -> None:
        if not self.prompt.strip() or not self.target_prompt.strip():
            raise ValueError("prompt='' says nothing of the picture; describe it, as 'a red circle on white'")
        check_whole(1, steps=self.steps)
        check_whole(0, dilation=self.dilation, seed=self.seed)
        check_numbers(guidance=self.guidance)
        check_sizes(text_tokens=self.text_tokens)
        check_truths(**{name: getattr(self, name) for name in ("masked", "share", "nearest", "carry", "blend")})
        check_buckets(self.buckets, self.fresh_noise)
        if self.schedule is not None and not isinstance(self.schedule, str):
            raise ValueError("a schedule must be a name for its record; attach DiffUHaul yourself to give a function")
        if self.picture is not None and self.picture.shape[1:3] != (self.height, self.width):
            raise ValueError(
                f"height={self.height} and width={self.width} are not the picture's {self.picture.shape[1:3]} pixels; "
                "resize it, or leave them out"
            )
        self.system()

    def system(self, words: Any = (), target_words: Any = None) -> DiffUHaul:
        """What attaches. Raises ValueError for options out of range."""
        return DiffUHaul(
            source=self.source, target=self.target, words=words, target_words=target_words, masked=self.masked,
            share=self.share, schedule=self.schedule, kappa=self.kappa, tau=self.tau,  # type: ignore[arg-type]
            nearest=self.nearest, carry=self.carry,
        )  # fmt: skip


def as_place(given: Any, size: Size, name: str) -> Blob:
    """Where an object is, from a `Blob`, a box x0, y0, x1, y1 in shares or pixels, or a mask of the picture's size.

    Raises ValueError for what is none of them, and as `Blob` and `Box.parse` do.
    """
    if isinstance(given, Blob):
        return given if given.name else replace(given, name=name)
    if isinstance(given, tuple | list) and len(given) == 4:
        box = Box.parse(given, size)
        height, width = box.of or (1, 1)
        return Blob.of_box((box.x0 / width, box.y0 / height, box.x1 / width, box.y1 / height), name)
    mask = np.asarray(given.convert("L") if isinstance(given, Image.Image) else given)
    if mask.ndim != 2 or mask.dtype.kind not in "buif":
        raise ValueError(f"object={given!r:.60} must be words of the prompt, a Blob, a box x0, y0, x1, y1, or a mask")
    if mask.shape != tuple(size):
        raise ValueError(f"a mask {mask.shape} of the object must be of the picture's size, {tuple(size)}")
    return Blob.of_mask(mask > (127 if mask.dtype == np.uint8 else 0.5), name)


def as_target(to: Any, source: Blobs, size: Size) -> Blobs:
    """The layout with the first object elsewhere: a centre x, y, a box or a `Blob`, or all objects' blobs in a list.

    Raises ValueError for a place outside of the picture, and for what is none of them.
    """
    if isinstance(to, Blob):
        return (replace(to, name=source[0].name), *source[1:])
    given: Sequence[Any] = to if isinstance(to, tuple | list) else ()
    if given and all(isinstance(blob, Blob) for blob in given):
        return tuple(given)
    if len(given) == 2:
        return (source[0].moved(as_centre((given[0], given[1]), size)), *source[1:])
    if len(given) == 4:
        return (as_place(given, size, source[0].name), *source[1:])
    raise ValueError(f"to={to!r:.60} must be a centre x, y, a box x0, y0, x1, y1, a Blob, or all objects' Blobs")


def as_centre(given: tuple[float, float], size: Size) -> tuple[float, float]:
    """Shares, from shares in [0, 1] or pixels."""
    if all(0 <= value <= 1 for value in given):
        return float(given[0]), float(given[1])
    return given[0] / size[1], given[1] / size[0]
