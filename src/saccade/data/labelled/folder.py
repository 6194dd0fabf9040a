"""A folder of pictures, one subfolder for each class, named after it.

What is hidden (its name begins with a dot, as `.ipynb_checkpoints` and `._0.png`) and what systems put beside pictures
(`__MACOSX`, `@eaDir`) is passed over. Links are followed; one that leads to no file, or to a folder that is read
already, is refused.
"""

import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np

from saccade.data.labelled.source import Pictures, parted
from saccade.data.rgb import open_picture

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
DECODING = "upright on white"  # said otherwise when pictures are decoded otherwise, so that old caches are not read
SYSTEM = ("__MACOSX", "@eaDir")  # folders of previews and resource forks


def open_folder(
    path: Path | str, side: int, *, held: float = 0.1, flip: bool = False, cache: Path | str | None = None
) -> Pictures:
    """The pictures of every subfolder and of folders in it, cropped to their centre square and shrunk to `side`.

    `held`: share that is never trained on, a fixed choice. `cache`: a folder that keeps the decoded pictures.
    Raises FileNotFoundError for a folder without classes or a class without pictures, ValueError naming a broken file
    or link.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"folder {root} is not there; give a folder with one subfolder of pictures a class")
    classes = [entry for entry in _entries(root) if entry.is_dir()]
    if not classes:
        raise FileNotFoundError(f"folder {root} has no subfolder; put the pictures of each class into one")
    read = {root.resolve(): root}
    names, files = tuple(folder.name for folder in classes), [_files(folder, read) for folder in classes]
    labels = np.repeat(np.arange(len(names)), [len(found) for found in files])
    flat = [file for found in files for file in found]
    kept = None if cache is None else Path(cache) / f"{root.name}-{_digest(root, flat)}-{side}.npy"
    return parted(
        lambda i: open_picture(flat[i], f"picture {flat[i]}"), labels, names, side=side, held=held, flip=flip, file=kept
    )


def _files(folder: Path, read: dict[Path, Path]) -> list[Path]:
    found = sorted(_walk(folder, read))
    if not found:
        raise FileNotFoundError(f"class folder {folder} has no picture ({', '.join(ENDINGS)}); fill or remove it")
    return found


def _walk(folder: Path, read: dict[Path, Path]) -> Iterator[Path]:
    """Picture files below a folder; `read` maps folders, their links resolved, to where they were met."""
    met = read.setdefault(folder.resolve(), folder)
    if met != folder:
        raise ValueError(f"folder {folder} is the same as {met}, which is read already; remove the link")
    for entry in _entries(folder):
        if entry.is_dir():
            yield from _walk(entry, read)
        elif entry.suffix.lower() in ENDINGS:
            yield entry


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, in order, but what is passed over."""
    shown = [entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name not in SYSTEM]
    for entry in shown:
        if not entry.exists():
            raise ValueError(f"link {entry} leads nowhere; mend or remove it")
    return sorted(shown)


def _digest(root: Path, files: list[Path]) -> str:
    """Changes when a file is added, removed, renamed or rewritten."""
    states = ((file.relative_to(root).as_posix(), file.stat()) for file in files)
    text = DECODING + "\n".join(f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in states)
    return blake2b(os.fsencode(text), digest_size=6).hexdigest()
