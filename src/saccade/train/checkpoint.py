"""Files that survive a kill: written beside their place, synced, then renamed over it in one step."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from saccade.models.stored import read_metadata, read_weights

CHECKPOINT, RESULT = "checkpoint.pt", "average.safetensors"
STATE = ("module", "average", "optimisers", "step", "seconds")  # what a checkpoint holds


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a neighbour of `path`, then move it there: `path` holds the old or the new content, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    write(partial)
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Store a checkpoint."""
    write_atomically(path, lambda partial: torch.save(state, partial))


def load_state(path: Path) -> dict[str, Any] | None:
    """The stored checkpoint on the CPU, or None where there is none yet.

    Raises ValueError for a file that is cut or no checkpoint.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, RuntimeError, UnpicklingError, ValueError, LookupError, TypeError) as error:
        raise ValueError(_spoilt(path, str(error).partition("\n")[0] or "it ends too early")) from None
    if not isinstance(state, dict) or any(name not in state for name in STATE):
        raise ValueError(_spoilt(path, f"it must hold {', '.join(STATE)}"))
    return state


def _spoilt(path: Path, why: str) -> str:
    return (
        f"{path} ({path.stat().st_size} bytes) is no whole checkpoint: {why}; "
        "put a whole copy there, or remove it to begin anew"
    )


def save_result(folder: Path, average: dict[str, Tensor], *, step: int, seconds: float) -> None:
    """Store the averaged weights of a finished training, with its length."""
    length = {"step": str(step), "seconds": str(seconds)}
    write_atomically(folder / RESULT, lambda path: save_file(average, path, metadata=length))


def result_length(folder: Path) -> tuple[int, float] | None:
    """Steps and seconds of the finished training in `folder`; None where there is none.

    Raises ValueError for a result that is cut or does not tell.
    """
    if not (folder / RESULT).exists():
        return None
    stored: Mapping[str, Any] = read_metadata(folder / RESULT) or load_state(folder / CHECKPOINT) or {}
    if not {"step", "seconds"} <= stored.keys():
        raise ValueError(f"{folder / RESULT} does not tell how long it was trained; remove it to train anew")
    return int(stored["step"]), float(stored["seconds"])


def trained(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of a finished training, or of its newest checkpoint.

    Raises FileNotFoundError where there is neither, ValueError for files that are not whole.
    """
    if (folder / RESULT).exists():
        return read_weights(folder / RESULT)
    if (state := load_state(folder / CHECKPOINT)) is None:
        raise FileNotFoundError(f"{folder} holds no training; run the stage 'train' first")
    return state["average"]


def keep_lines_until(path: Path, step: int) -> None:
    """Drop log lines of steps after `step`, which a killed run wrote after its last checkpoint, and torn ones."""
    if path.exists():
        kept = [line for line in path.read_text().splitlines() if _is_until(line, step)]
        write_atomically(path, lambda partial: partial.write_text("".join(line + "\n" for line in kept)))


def _is_until(line: str, step: int) -> bool:
    try:
        return json.loads(line)["step"] <= step
    except (ValueError, LookupError, TypeError):
        return False
