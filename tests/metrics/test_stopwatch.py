"""Time and memory of a piece of work."""

import time

import pytest
import torch

from saccade.metrics import measure
from saccade.metrics.stopwatch import in_turn

MEGABYTE = 2**20


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


def test_arms_run_in_turn_and_warm_rounds_are_not_counted() -> None:
    ran: list[str] = []
    arms = {"a": lambda: ran.append("a"), "b": lambda: time.sleep(0.02) or ran.append("b")}
    seconds = in_turn(arms, 3, warm=2)
    assert "".join(ran) == "ab" * 5
    assert {name: len(spent) for name, spent in seconds.items()} == {"a": 3, "b": 3}
    assert min(seconds["b"]) >= 0.02 > max(seconds["a"]) >= 0


def test_no_round_is_too_few() -> None:
    with pytest.raises(ValueError, match="rounds=0 must be at least 1"):
        in_turn({}, 0)
