"""The input of an insertion: the subject on white above, the picture it goes into below, and where it may be drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from saccade.metrics.fidelity import Picture

Mask = Float[np.ndarray, "h w"]
Size = tuple[int, int]  # height, width
Corners = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
Detect = Callable[[Picture, str], Corners | None]  # the first box of what a phrase names, None where it is not there
Segment = Callable[[Picture, Corners], Mask | Bool[np.ndarray, "h w"]]  # the mask of what stands in a box


@dataclass(frozen=True, kw_only=True, eq=False)
class Diptych:
    """Subject on top, target below, and a mask of both that is 0 on top.

    picture  (1 2h w 3) in [0, 1]; mask  (2h w) in [0, 1], 1 where the subject goes
    Raises ValueError for halves that are not equal, and for a mask that is empty, of another size, or not 0 on top.
    """

    picture: Picture
    mask: Mask

    def __post_init__(self) -> None:
        height = self.picture.shape[1]
        if height % 2:
            raise ValueError(
                f"a diptych of {height} rows of pixels has no equal halves; make both pictures of one size"
            )
        check_mask(self.mask, (height, self.picture.shape[2]))
        if self.mask[: height // 2].any():
            raise ValueError("the mask reaches into the upper half, which shows the subject; it must be 0 there")

    @property
    def half(self) -> int:
        """Rows of pixels of a half."""
        return self.picture.shape[1] // 2

    def lower(self, picture: Float[np.ndarray, "t y w 3"]) -> Picture:
        """The lower half of a picture of the diptych's size: the result of an insertion."""
        return picture[:, self.half :]


def make_diptych(subject: Picture, into: Picture, mask: Mask) -> Diptych:
    """Of a subject on white, a picture of the same size, and a mask of it.

    Raises ValueError for pictures of different sizes, and as `Diptych` does.
    """
    if subject.shape != into.shape:
        raise ValueError(
            f"subject {subject.shape[1:3]} and target {into.shape[1:3]} must be of one size, since they are halves of "
            "one picture; resize one, as `resized` does"
        )
    check_mask(mask, into.shape[1:3])
    whole = np.concatenate((np.zeros_like(mask, dtype=np.float32), mask.astype(np.float32)))
    return Diptych(picture=np.concatenate((subject, into), axis=1), mask=whole)


def check_mask(mask: Mask, size: Size) -> None:
    """Raises ValueError for a mask of another size, out of [0, 1], or empty."""
    if mask.shape != tuple(size):
        raise ValueError(f"mask {mask.shape} must be of the picture's size, {tuple(size)}")
    if not 0 <= mask.min() <= mask.max() <= 1:
        raise ValueError(f"mask in [{mask.min():g}, {mask.max():g}] must be in [0, 1]; scale it")
    if not mask.any():
        raise ValueError("mask is empty, so there is no place for the subject; mark some pixels with 1")


def cut_out(picture: Picture, phrase: str, detect: Detect, segment: Segment) -> Mask:
    """The mask of what a phrase names: the first box found, and what stands in it.

    Raises ValueError where nothing is found, and for a mask of another size or an empty one.
    """
    box = detect(picture, phrase)
    if box is None:
        raise ValueError(f"'{phrase}' was not found in the subject's picture; name it otherwise, or give subject_mask=")
    mask = np.asarray(segment(picture, box), dtype=np.float32)
    check_mask(mask, picture.shape[1:3])
    return mask


def on_white(picture: Picture, mask: Mask | Bool[np.ndarray, "h w"]) -> Picture:
    """The picture where the mask is 1, white where it is 0. Raises ValueError as `check_mask` does."""
    soft = np.asarray(mask, dtype=np.float32)
    check_mask(soft, picture.shape[1:3])
    return (picture * soft[..., None] + (1 - soft[..., None])).astype(np.float32)


def resized(picture: Picture, size: Size) -> Float[np.ndarray, "t y x 3"]:
    """The picture at another size, each axis by itself."""
    if picture.shape[1:3] == tuple(size):
        return picture
    return np.stack([_resized(picture[0, :, :, channel], size) for channel in range(3)], axis=-1)[None].clip(0, 1)


def resized_mask(mask: Mask, size: Size) -> Float[np.ndarray, "y x"]:
    """A mask at another size, in between in proportion."""
    return mask if mask.shape == tuple(size) else _resized(mask, size).clip(0, 1)


def fitted(picture: Picture, size: Size) -> Float[np.ndarray, "t y x 3"]:
    """The whole picture in the middle of a white one of this size, in its own proportions."""
    height, width = picture.shape[1:3]
    scale = min(size[0] / height, size[1] / width)
    inner = max(round(height * scale), 1), max(round(width * scale), 1)
    found = np.ones((1, *size, 3), dtype=np.float32)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    found[:, top : top + inner[0], left : left + inner[1]] = resized(picture, inner)
    return found


def _resized(plane: Float[np.ndarray, "h w"], size: Size) -> Float[np.ndarray, "y x"]:
    image = Image.fromarray(np.asarray(plane, dtype=np.float32))
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR))
