"""Pictures of any size to squares of bytes, once; kept in memory, or in a file that later runs map."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

Read = Callable[[int], Image.Image]  # in RGB


def decoded(n: int, read: Read, side: int, file: Path | None = None) -> UInt8[np.ndarray, "n s s 3"]:
    """Picture 0 to n - 1 as squares of `side` pixels; read from `file` if it is there, else written to it.

    Raises ValueError for a side below one pixel.
    """
    if side < 1:
        raise ValueError(f"side={side} must be at least 1 pixel")
    if file is None:
        return _fill(np.empty((n, side, side, 3), np.uint8), read)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(file.name + ".partial")
        _fill(np.lib.format.open_memmap(partial, "w+", np.uint8, (n, side, side, 3)), read).flush()  # type: ignore[attr-defined]
        partial.replace(file)
    return _mapped(file, n, side)


def _mapped(file: Path, n: int, side: int) -> UInt8[np.ndarray, "n s s 3"]:
    try:
        found = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"cache file {file} is torn or of another kind: {error}; remove it") from None
    if found.shape != (n, side, side, 3) or found.dtype != np.uint8:
        held = f"{found.shape}" if found.dtype == np.uint8 else f"{found.dtype} {found.shape}"
        raise ValueError(f"cache file {file} holds {held}, not {n} pictures of side {side}; remove it")
    return found


def squared(image: Image.Image, side: int) -> UInt8[np.ndarray, "s s 3"]:
    """Centre square of a picture at `side` pixels: the mean of what a pixel covers, bicubic where it must grow."""
    short = min(image.size)
    left, top = ((extent - short) // 2 for extent in image.size)
    way = Image.Resampling.BOX if side <= short else Image.Resampling.BICUBIC
    box = (left, top, left + short, top + short)
    return np.asarray(image.resize((side, side), way, box=box))


def _fill(pixels: np.ndarray, read: Read) -> np.ndarray:
    for i in range(len(pixels)):
        pixels[i] = squared(read(i), pixels.shape[1])
    return pixels
