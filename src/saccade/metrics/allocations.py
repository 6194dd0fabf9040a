"""Bytes a piece of work allocates, told by torch's own allocator: exact, and blind to what other memory does meanwhile.

Every tensor counts, those inside fused kernels included; memory that other libraries take does not.
"""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_allocated(work: Callable[[], object]) -> int:
    """The most bytes alive at once that `work` allocated on the CPU, its result included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = work()
    del result
    results = recorded.profiler.kineto_results if recorded.profiler is not None else None
    events = [] if results is None else [e for e in results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        if event.device_type() == torch.autograd.DeviceType.CPU:
            alive += event.nbytes()
            peak = max(peak, alive)
    return peak
