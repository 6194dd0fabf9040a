"""Where the two subjects are, in latents, from frames in which a segmenter coloured each subject.

A subject is a colour other than black of the first frame; subjects come in the order of their (r, g, b).
The first frame is a latent frame by itself, each `time_stride` frames after it make one: the mean of their masks.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from saccade.data.rgb import BLACK, open_picture

MOST = 2  # subjects
MOCHI = (6, 8)  # frames and pixels of a latent of its autoencoder; (4, 8) are those of Wan, CogVideoX, HunyuanVideo


def read_frames(folder: str | Path) -> UInt8[np.ndarray, "f h w 3"]:
    """The coloured frames of a folder of PNG files, by the numbers in their names: frame2 before frame10.

    Raises ValueError for a folder without any, for names without a number, and for frames of several sizes.
    """
    files = sorted(Path(folder).glob("*.png"), key=_number)
    if not files:
        raise ValueError(f"folder='{folder}' holds no PNG files of masks")
    frames = [np.asarray(open_picture(file, str(file), background=BLACK)) for file in files]
    if len({frame.shape for frame in frames}) > 1:
        raise ValueError(f"folder='{folder}' holds frames of several sizes; segment one video at one size")
    return np.stack(frames)


def subject_masks(
    coloured: UInt8[np.ndarray, "f h w 3"], *, frames: int | None = None, offset: int = 0
) -> Float[Tensor, "t 2 h w"]:
    """The pixels of each subject, 1 or 0; zeros for a second subject that is not there.

    frames   of the video, None for all that are coloured; offset   coloured frames before its first
    Raises ValueError for fewer coloured frames than the video has, for no subject or more than two, and for a colour
    that the first frame does not have.
    """
    wanted = len(coloured) - offset if frames is None else frames
    if offset < 0 or wanted < 1 or len(coloured) < offset + wanted:
        raise ValueError(
            f"{len(coloured)} mask frames do not cover frames={wanted} of the video from offset={offset}; segment "
            "all of its frames"
        )
    used = torch.from_numpy(np.ascontiguousarray(coloured[offset : offset + wanted])).long()
    codes = used @ torch.tensor([1 << 16, 1 << 8, 1])  # sorted as (r, g, b) is
    known = _colours(codes[0])
    strange = [code for code in _colours(codes) if code not in known]
    if strange:
        frame = int((codes == strange[0]).flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"frame {offset + frame} of the masks has the colour {_rgb(strange[0])}, which the first, with "
            f"{', '.join(map(_rgb, known))}, does not; give a subject one colour throughout"
        )
    if not 1 <= len(known) <= MOST:
        raise ValueError(f"the first mask frame shows {len(known)} subjects by colour; there must be 1 or {MOST}")
    masks = torch.zeros(wanted, MOST, *codes.shape[1:])
    for i, code in enumerate(known):
        masks[:, i] = codes == code
    return masks


def latent_masks(
    masks: Float[Tensor, "f s h w"], size: tuple[int, int] | None = None, *, strides: tuple[int, int] = MOCHI
) -> Float[Tensor, "t s y x"]:
    """Masks of pixels on latents, in [0, 1]; no pixel of a subject is lost.

    size     rows and columns of the latents; None: pixels by the stride
    strides  of the autoencoder in time and space, (6, 8) for Mochi, (4, 8) for Wan
    Raises ValueError for frames other than 1 above a multiple of the stride, and for pixels no multiple of it.
    """
    time, space = strides
    if len(masks) % time != 1 % time:
        near = 1 + (len(masks) - 1) // time * time
        raise ValueError(f"{len(masks)} frames must be 1 above a multiple of {time}, the stride in time; take {near}")
    small = shrunk(masks, _latent_size(masks, space) if size is None else size)
    rest = small[1:].unflatten(0, (-1, time)).mean(1) if len(small) > 1 else small[1:]
    return torch.cat((small[:1], rest))


def shrunk(masks: Float[Tensor, "f s h w"], size: tuple[int, int]) -> Float[Tensor, "f s y x"]:
    """Nearest pixels, and 1 wherever the place (floor(y Y / h), floor(x X / w)) of a pixel of the subject falls.

    Raises ValueError for a size below 1.
    """
    if min(size) < 1:
        raise ValueError(f"size={size} must be at least one latent down and across")
    nearest = F.interpolate(masks, size=size, mode="nearest")
    frame, subject, *place = masks.nonzero(as_tuple=True)
    rows, columns = (
        (at.float() * (few / many)).floor().long().clamp(max=few - 1)
        for at, few, many in zip(place, size, masks.shape[-2:], strict=True)
    )
    nearest[frame, subject, rows, columns] = 1.0
    return nearest


def _latent_size(masks: Tensor, space: int) -> tuple[int, int]:
    height, width = masks.shape[-2:]
    if height % space or width % space:
        raise ValueError(f"frames of {height} x {width} pixels are no multiples of {space}; give size= of the latents")
    return height // space, width // space


def _colours(codes: Tensor) -> list[int]:
    return [code for code in codes.unique().tolist() if code]


def _rgb(code: int) -> str:
    return str((code >> 16, code >> 8 & 255, code & 255))


def _number(file: Path) -> int:
    found: Iterable[str] = re.findall(r"\d+", file.stem)
    if not found:
        raise ValueError(f"'{file}' has no number in its name, by which frames are sorted; name it frame0.png")
    return int([*found][-1])
