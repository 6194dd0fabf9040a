"""Files of labelled pictures as tests read them, made by formula."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COUNT = 20


def write_cifar10(root: Path, *, broken: int | None = None, first: int = 0) -> tuple[np.ndarray, list[int]]:
    """Train and test files of the same 20 random pictures; `broken`: this one is no picture; `first`: label of 0."""
    pa = pytest.importorskip("pyarrow", reason="the extra `data` brings pyarrow")
    from pyarrow import parquet

    pixels = np.random.default_rng(0).integers(256, size=(COUNT, 32, 32, 3), dtype=np.uint8)
    labels = [first, *(i % 10 for i in range(1, COUNT))]
    rows = [{"bytes": b"none" if i == broken else _png(p), "path": f"picture/{i}.png"} for i, p in enumerate(pixels)]
    (root / "cifar10").mkdir(parents=True, exist_ok=True)
    for name in ("train", "test"):
        parquet.write_table(pa.table({"image": rows, "label": labels}), root / "cifar10" / f"{name}.parquet")
    return pixels, labels


def write_folder(root: Path, colours: dict[str, tuple[int, int, int]], *, each: int) -> None:
    """`each` plain pictures a class, of different sizes."""
    for name, colour in colours.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(each):
            Image.new("RGB", (16 + i, 20), colour).save(root / name / f"{i}.png")


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
