"""Any picture as upright RGB of 8 bits: the one way in for files, rows of data sets and pictures of PIL.

orientation  pictures are turned as their EXIF says
alpha        pictures are laid on white, masks on black; so are palettes and colour keys with transparent places
deep grey    0 to 65535 (0 to 4095 in a TIFF of 12 bits) becomes 0 to 255, rounded to the nearest; other ranges of
             32-bit grey and grey of floats are refused, since nothing says what is white
frames       the first of several
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float
from PIL import ExifTags, Image

Background = tuple[int, int, int]
WHITE: Background = (255, 255, 255)
BLACK: Background = (0, 0, 0)
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what makes a picture of this EXIF orientation upright
DEEPEST = 16  # bits of grey whose range is known


def open_picture(file: Path | BinaryIO, name: str, *, background: Background = WHITE) -> Image.Image:
    """A picture file in RGB; `name` is what an error calls it.

    Raises ValueError for a file that is missing, no picture, torn, larger than Pillow takes for safe, or too deep.
    """
    if isinstance(file, Path) and not file.is_file():
        raise ValueError(f"{name} is missing")
    with _readable(name), Image.open(file) as image:
        return _rgb(image, background)


def as_rgb(image: Image.Image, name: str = "picture", *, background: Background = WHITE) -> Image.Image:
    """A picture of PIL in RGB, a new one. Raises ValueError as `open_picture` does."""
    with _readable(name):
        return _rgb(image, background)


def as_picture(image: Image.Image | np.ndarray) -> Float[np.ndarray, "1 h w 3"]:
    """A picture in [0, 1], of a PIL image, or of an array (h w 3) of bytes or of floats in [0, 1].

    Raises ValueError for an array of another shape or type, and for what is neither.
    """
    if not isinstance(image, Image.Image | np.ndarray):
        raise ValueError(f"a picture of {type(image).__name__} must be a PIL image or an array (h w 3)")
    array = np.asarray(as_rgb(image)) if isinstance(image, Image.Image) else image
    scaled = array.astype(np.float32) / (255 if array.dtype == np.uint8 else 1)
    if array.ndim != 3 or array.shape[-1] != 3 or not array.size or not (0 <= scaled.min() <= scaled.max() <= 1):
        raise ValueError(f"a picture of {array.dtype} {array.shape} must be (h w 3), bytes or floats in [0, 1]")
    return scaled[None]


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the readers of torn and hostile files raise nearly anything
        raise ValueError(f"{name} cannot be read: {str(error) or type(error).__name__}") from None


def _rgb(image: Image.Image, background: Background) -> Image.Image:
    image.load()  # some formats tell orientation and transparency only behind the pixels
    turn = TURNS.get(_orientation(image))
    flat = _flat(_shallow(image), background)
    upright = flat if turn is None else flat.transpose(turn)
    upright.info = {}  # nobody turns it again
    return upright


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF says nothing, and the pixels are whole
        return 1


def _flat(image: Image.Image, background: Background) -> Image.Image:
    """RGB, laid on the background where it lets it through."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")


def _shallow(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits in 8, its colour key as alpha; any other picture as it is."""
    if image.mode == "F":
        raise ValueError("its grey is of floats, whose range is unknown; save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values, most = np.asarray(image).astype(np.int64), 2 ** min(_bits(image), DEEPEST) - 1
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > most:
        raise ValueError(f"its grey lies in {low} to {high}, not in 0 to {most}; save it with 8 or 16 bits")
    grey = Image.fromarray(((2 * 255 * values + most) // (2 * most)).astype(np.uint8))
    key = image.info.get("transparency")
    return grey if key is None else Image.merge("LA", (grey, Image.fromarray(np.uint8(255) * (values != key))))


def _bits(image: Image.Image) -> int:
    """Of one value, where the file has fewer than its mode says, as TIFF may."""
    return int(getattr(image, "tag_v2", {}).get(258, (DEEPEST,))[0])
