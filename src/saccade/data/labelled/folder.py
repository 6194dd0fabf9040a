"""A folder of pictures, one subfolder for each class, named after it."""

from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image

from saccade.data.labelled.source import Pictures, parted

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def open_folder(
    path: Path | str, side: int, *, held: float = 0.1, flip: bool = False, cache: Path | str | None = None
) -> Pictures:
    """The pictures of every subfolder, cropped to their centre square and shrunk to `side`.

    `held`: share that is never trained on, a fixed choice. `cache`: a folder that keeps the decoded pictures.
    Raises FileNotFoundError for a folder without classes or a class without pictures, ValueError naming a broken file.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"folder {root} is not there; give a folder with one subfolder of pictures a class")
    names = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")))
    if not names:
        raise FileNotFoundError(f"folder {root} has no subfolder; put the pictures of each class into one")
    files = [_files(root / name) for name in names]
    labels = np.repeat(np.arange(len(names)), [len(found) for found in files])
    flat = [file for found in files for file in found]
    kept = None if cache is None else Path(cache) / f"{root.name}-{_digest(root, flat)}-{side}.npy"
    return parted(lambda i: _opened(flat[i]), labels, names, side=side, held=held, flip=flip, file=kept)


def _files(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS)
    if not found:
        raise FileNotFoundError(f"class folder {folder} has no picture ({', '.join(ENDINGS)}); fill or remove it")
    return found


def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError) as error:
        raise ValueError(f"picture {file} cannot be read: {error}") from None


def _digest(root: Path, files: list[Path]) -> str:
    """Changes when a file is added, removed, renamed or rewritten."""
    states = ((file.relative_to(root).as_posix(), file.stat()) for file in files)
    text = "\n".join(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states)
    return blake2b(text.encode(), digest_size=6).hexdigest()
