"""Bytes handed out by torch's allocator."""

import torch

from saccade.metrics.allocations import peak_allocated


def test_the_peak_counts_what_lives_at_once() -> None:
    def one_after_the_other() -> None:
        for _ in range(3):
            torch.zeros(1000)

    assert peak_allocated(one_after_the_other) == 4000
    assert peak_allocated(lambda: [torch.zeros(1000) for _ in range(3)]) == 12000


def test_nothing_allocated_is_zero() -> None:
    x = torch.zeros(1000)
    assert peak_allocated(lambda: x.view(10, 100)) == 0


def test_memory_inside_a_kernel_counts() -> None:
    x = torch.randn(256, 256)
    assert peak_allocated(lambda: torch.linalg.svd(x)) > 3 * 256 * 256 * 4
