"""Seconds and peak memory of one piece of work; seconds of several, run in turn.

On CUDA: the allocator's peak, between synchronisations. On a CPU under Linux: the high-water mark of the process's
resident memory, reset before the work, weights and libraries included; elsewhere it is not known.
"""

import ctypes
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

T = TypeVar("T")
_PROCESS = Path("/proc/self")


@dataclass(frozen=True, kw_only=True)
class Measured(Generic[T]):
    """What the work returned, and what it took; `peak_bytes` is None where it cannot be told."""

    result: T
    seconds: float
    peak_bytes: int | None


def measure(work: Callable[[], T], device: torch.device | str = "cpu") -> Measured[T]:
    """Run `work` once, with free memory given back before and the device idle before and after."""
    on = torch.device(device)
    known = _reset_peak(on)
    start = _now(on)
    result = work()
    seconds = _now(on) - start
    return Measured(result=result, seconds=seconds, peak_bytes=_peak(on) if known else None)


def in_turn(
    arms: Mapping[str, Callable[[], object]], rounds: int, *, warm: int = 1, device: torch.device | str = "cpu"
) -> dict[str, list[float]]:
    """Seconds by arm: every round runs all arms in turn, so that drift of the machine hits all alike.

    warm  rounds before, uncounted; the device is idle before and after every run

    Raises ValueError for less than one round.
    """
    if rounds < 1:
        raise ValueError(f"rounds={rounds} must be at least 1")
    on, seconds = torch.device(device), {name: [] for name in arms}
    for number in range(warm + rounds):
        for name, work in arms.items():
            start = _now(on)
            work()
            spent = _now(on) - start
            if number >= warm:
                seconds[name].append(spent)
    return seconds


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _reset_peak(device: torch.device) -> bool:
    """Forget earlier peaks; False where that is not allowed."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        ctypes.CDLL(None).malloc_trim(0)  # freed pages go back, so that an earlier arm's peak is not counted again
        (_PROCESS / "clear_refs").write_text("5")
    except (OSError, AttributeError):
        return False
    return True


def _peak(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    lines = (_PROCESS / "status").read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
