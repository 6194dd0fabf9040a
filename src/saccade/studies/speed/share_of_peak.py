"""How much of the processor the native kernel uses: full blocks against multiply-adds in registers alone.

Peak and kernel run in turn in one process, on the same threads, so that the share holds whatever else the machine does.
"""

import ctypes
import statistics
from concurrent.futures import ThreadPoolExecutor

import torch

from saccade.experiments import Row
from saccade.metrics.stopwatch import in_turn
from saccade.ops import native, native_measure

SIDE = 128  # of the blocks
ROUNDS = 20_000_000  # of the loop in registers: long enough that all threads are at it together


@torch.inference_mode()
def peak_rows(n: int, rounds: int) -> list[Row]:
    """A row: multiply-adds a second in registers, and the share of them that blocks of 128, all full, reach.

    A row that says why, without figures, where the kernel is not.
    """
    try:
        native.warm()
    except native.BuildError as error:
        return [{"n": n, "peak_gmacs": None, "reached": None, "refused": str(error)}]
    n = max(n // SIDE, 1) * SIDE
    q, k, v = native_measure.drawn(n, torch.float32)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        arms = {"peak": lambda: _in_registers(pool), "blocks": native_measure.arm(q, k, v, (SIDE, SIDE), share=1.0)}
        seconds = in_turn(arms, rounds)
    most = _in_registers_of_one() * torch.get_num_threads()
    done = 2 * native_measure.D * native_measure.HEADS * n * n
    peaks = [most / each for each in seconds["peak"]]
    reached = [done / each / peak for each, peak in zip(seconds["blocks"], peaks, strict=True)]
    row = {"n": n, "peak_gmacs": statistics.median(peaks) / 1e9, "reached": statistics.median(reached)}
    return [row | {"refused": None}]


def _in_registers(pool: ThreadPoolExecutor) -> None:
    """Every thread its share; ctypes lets go of the interpreter's lock."""
    for done in [pool.submit(_in_registers_of_one) for _ in range(torch.get_num_threads())]:
        done.result()


def _in_registers_of_one() -> int:
    """Multiply-adds done by one thread."""
    work = native.wide().saccade_multiply_adds
    work.restype, work.argtypes = ctypes.c_int64, (ctypes.c_int64, ctypes.POINTER(ctypes.c_float))
    return work(ROUNDS, ctypes.c_float(1e-9))
