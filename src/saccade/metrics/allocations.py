"""Bytes a piece of work allocates, by torch's own allocator: exact, and blind to what other memory does meanwhile.

Every tensor counts, those inside fused kernels included; memory that other libraries take does not.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from torch.profiler import ProfilerActivity, profile

ERRORS = 2  # the file descriptor


def peak_allocated(work: Callable[[], object]) -> int:
    """The most bytes alive at once that `work` allocated on the CPU, its result included."""
    with _silent_profiler(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = work()
    del result
    changes = sorted((e.start_ns(), e.nbytes()) for e in _events(recorded) if e.name() == "[memory]")
    return max(accumulate((size for _, size in changes), initial=0))


def _events(recorded: profile) -> list[Any]:
    """What the profiler saw, in its own terms: allocations are events of that name, frees have negative sizes."""
    results = None if recorded.profiler is None else recorded.profiler.kineto_results
    return [] if results is None else list(results.events())


@contextmanager
def _silent_profiler() -> Iterator[None]:
    """Some builds of the profiler announce start and stop on the error stream, past Python and its log levels."""
    kept, nothing = os.dup(ERRORS), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, ERRORS)
    try:
        yield
    finally:
        os.dup2(kept, ERRORS)
        os.close(kept)
        os.close(nothing)
