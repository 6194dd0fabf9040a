"""Adapters distilled for CLEAR: those that come with the package, and files of one's own.

A file holds low-rank terms as diffusers stores them; its metadata say what they were distilled for, and hold the
pooling weights.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch

from saccade.mechanisms.low_rank import LowRank
from saccade.models.lora_file import load_lora, save_lora
from saccade.models.stored import read_metadata
from saccade.papers.clear.pooled_keys import PoolingWeights

FILE = "pytorch_lora_weights.safetensors"  # what diffusers looks for in a folder
MEND = (
    "distil one for this model by `saccade train clear-distil --set model=...` and give its file as "
    "distilled='...safetensors', or leave distilled out"
)
WEIGHTS = Path(str(files("saccade.models"))) / "weights"


def bundled() -> tuple[str, ...]:
    """Names of the adapters in the package."""
    return tuple(sorted(found.parent.name for found in WEIGHTS.glob(f"*-clear-*/{FILE}")))


def bundled_name(radius: float, pool: int | None, model: str = "scenes-flux") -> str:
    """What an adapter of these options is called."""
    return f"{model}-clear-r{radius:g}" + ("" if pool is None else f"-d{pool}")


def adapter_file(given: str | Path) -> Path:
    """The file of a bundled adapter by name, or of a path to a file or folder.

    Raises ValueError for what is neither.
    """
    path = Path(given)
    if str(given) in bundled():
        return WEIGHTS / str(given) / FILE
    if path.is_dir():
        return path / FILE
    if not path.is_file():
        raise ValueError(
            f"distilled='{given}' is neither a file nor one of the bundled adapters: {', '.join(bundled())}; {MEND}"
        )
    return path


def load_adapter(path: Path, pool: int | None) -> tuple[LowRank, PoolingWeights | None]:
    """The terms, and the pooling weights where it was distilled with pooled keys.

    Raises ValueError for a file of another kind, or distilled with another `pool`.
    """
    title = path.parent.name if path.name == FILE else path.stem
    said = read_metadata(path)
    if (trained := json.loads(said.get("pool", "null"))) != pool:
        raise ValueError(f"distilled='{title}' was distilled with pool={trained}, not {pool}; give pool={trained}")
    return load_lora(path, title=title, mend=MEND), _pooling(json.loads(said.get("pooling", "{}")), pool)


def save_adapter(path: Path, terms: LowRank, *, pooling: PoolingWeights | None = None, **said: object) -> None:
    """Store terms, pooling weights, and `said` beside them."""
    weights = {} if pooling is None else {name: value.tolist() for name, value in pooling.by_site.items()}
    known = {**said, "pool": None if pooling is None else pooling.size, "pooling": weights}
    save_lora(terms, path, {name: json.dumps(value) for name, value in known.items()})


def _pooling(stored: Mapping[str, list[list[float]]], pool: int | None) -> PoolingWeights | None:
    if pool is None or not stored:
        return None
    made = PoolingWeights(stored, pool).requires_grad_(False)
    for name, value in made.by_site.items():
        value.copy_(torch.tensor(stored[name]))
    return made
