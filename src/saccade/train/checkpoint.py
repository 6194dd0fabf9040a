"""Files that survive a kill: written beside their place, synced, then renamed over it in one step."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


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
    """The stored checkpoint on the CPU, or None where there is none yet."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def trained(folder: Path) -> dict[str, Tensor]:
    """The averaged weights of a finished training, or of its newest checkpoint."""
    if (folder / "average.safetensors").exists():
        return load_file(folder / "average.safetensors")
    if (state := load_state(folder / "checkpoint.pt")) is None:
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
    except json.JSONDecodeError:
        return False
