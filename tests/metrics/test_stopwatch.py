"""Time and memory of a piece of work."""

import time

import pytest
import torch

from saccade.metrics import measure

MEGABYTE = 2**20


@pytest.mark.timing
def test_the_result_comes_back_with_its_time() -> None:
    got = measure(lambda: time.sleep(0.02) or "done")
    assert got.result == "done"
    assert 0.02 <= got.seconds < 1


def test_peak_memory_sees_what_was_freed_again() -> None:
    idle = measure(lambda: None)
    if idle.peak_bytes is None:
        pytest.skip("this system does not let a process reset its peak of resident memory")
    busy = measure(lambda: float(torch.ones(200 * MEGABYTE // 4).sum()))
    after = measure(lambda: None)
    assert busy.peak_bytes is not None and after.peak_bytes is not None
    assert busy.peak_bytes - idle.peak_bytes == pytest.approx(200 * MEGABYTE, rel=0.2)
    assert after.peak_bytes < busy.peak_bytes - 100 * MEGABYTE
