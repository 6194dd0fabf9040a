"""CIFAR-10 from parquet files: columns `image{bytes, path}` and `label`, as its copies on model hubs have them."""

import io
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from saccade.data.labelled.decode import decoded
from saccade.data.labelled.source import Pictures, check_labels, whole_numbers
from saccade.data.rgb import open_picture

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COLUMNS = ("image", "label")
FILES = ("train.parquet", "test.parquet")


def open_cifar10(side: int = 32, *, flip: bool = False, cache: Path | str | None = None) -> Pictures:
    """CIFAR-10 from the folder `cifar10` under the environment variable SACCADE_DATA; needs pyarrow.

    `side`: below 32 pixels are averaged. `flip`: mirror half of every batch.
    `cache`: a folder that keeps the decoded pictures; decoding takes some seconds without one.
    Raises FileNotFoundError where a file is missing, ImportError without pyarrow.
    """
    (train, labels), (held, held_labels) = (read_parquet(_file(name), CIFAR10, side, cache=cache) for name in FILES)
    return Pictures(names=CIFAR10, train=train, labels=labels, held=held, held_labels=held_labels, flip=flip)


def read_parquet(
    file: Path, names: tuple[str, ...], side: int, *, cache: Path | str | None = None
) -> tuple[UInt8[np.ndarray, "n s s 3"], Int64[np.ndarray, " n"]]:
    """All pictures and labels of one file.

    Raises ValueError for a file of another kind, and for a broken picture or label with its row.
    Raises ImportError without pyarrow.
    """
    if find_spec("pyarrow") is None:
        raise ImportError("parquet files need pyarrow: pip install 'saccade[data]'")
    table = _table(file)
    labels = whole_numbers(table.column("label").to_pylist(), f"column 'label' of {file}")
    check_labels(labels, names)
    images = table.column("image").combine_chunks()
    kept = None if cache is None else Path(cache) / f"{file.parent.name}-{file.stem}-{side}.npy"
    return decoded(len(labels), lambda i: _opened(images[i].as_py(), file, i), side, kept), labels


def _table(file: Path) -> Any:
    from pyarrow import ArrowException, parquet

    try:
        found = parquet.read_schema(file).names
        if missing := [name for name in COLUMNS if name not in found]:
            raise ValueError(f"{file} has no column {', '.join(missing)}; it has {', '.join(found)}")
        return parquet.read_table(file, columns=list(COLUMNS))
    except (ArrowException, OSError) as error:
        raise ValueError(f"{file} is no parquet file that can be read: {error}") from None


def _opened(row: Any, file: Path, i: int) -> Image.Image:
    data = row.get("bytes") if isinstance(row, dict) else row
    if not isinstance(data, bytes):
        raise ValueError(f"picture {i} of {file} is {type(data).__name__}, not bytes; remove or mend the row")
    return open_picture(io.BytesIO(data), f"picture {i} of {file}{_called(row)}")


def _called(row: Any) -> str:
    return f", {row['path']}," if isinstance(row, dict) and row.get("path") else ""


def _file(name: str) -> Path:
    root = os.environ.get("SACCADE_DATA")
    file = Path(root or "") / "cifar10" / name
    if not root or not file.is_file():
        raise FileNotFoundError(
            f"SACCADE_DATA={root} has no cifar10/{name}; set it to the folder of the optional data sets, "
            "or take the source 'scenes'"
        )
    return file
