"""Pictures as commands read and write them: masks, boxes, and results under the numbers of their seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def corners(text: str) -> tuple[float, ...]:
    """A box `x0,y0,x1,y1`, whole numbers kept whole. Raises ValueError for another text."""
    try:
        return tuple(int(part) if part.strip().isdecimal() else float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"box '{text}' must read x0,y0,x1,y1") from None


def open_rgb(path: str, name: str) -> Any:
    """A picture file, which an error calls by the option's name."""
    from saccade.data.rgb import open_picture

    return open_picture(Path(path), f"{name}='{path}'")


def open_gray(path: str, name: str = "mask") -> Any:
    """A mask in [0, 1]; what is transparent is 0."""
    import numpy as np

    from saccade.data.rgb import BLACK, open_picture

    return np.asarray(open_picture(Path(path), f"{name}='{path}'", background=BLACK).convert("L")) / np.float32(255)


def write_pictures(pictures: Any, seeds: Sequence[int], out: Path) -> list[Path]:
    """Write pictures (h w 3) or videos (t h w 3) to `out`, with their seeds put in where there are several."""
    from saccade.cli.generate import save

    paths = [out if len(seeds) == 1 else out.with_stem(f"{out.stem}-{seed}") for seed in seeds]
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, picture in zip(paths, pictures, strict=True):
        save(picture.reshape(-1, *picture.shape[-3:]), path)
    return paths
