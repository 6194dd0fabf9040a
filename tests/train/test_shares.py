"""Every row of a batch goes to one process and one part of its work, in order."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.train.split_batch import split_batch


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_the_parts_of_all_processes_make_the_batch(accumulate: int, processes: int, size: int) -> None:
    rows = accumulate * processes * size
    batch = {"x": torch.arange(rows), "words": {"ids": torch.arange(2 * rows).view(rows, 2)}, "grid": torch.arange(5)}
    parts = [
        split_batch(batch, accumulate=accumulate, process=process, processes=processes, shared=("grid",))
        for process in range(processes)
    ]
    ordered = [parts[process][turn] for turn in range(accumulate) for process in range(processes)]
    assert torch.equal(torch.cat([part["x"] for part in ordered]), batch["x"])
    assert torch.equal(torch.cat([part["words"]["ids"] for part in ordered]), batch["words"]["ids"])
    assert all(torch.equal(part["grid"], batch["grid"]) for part in ordered)


def test_one_process_takes_a_batch_of_any_kind_whole() -> None:
    batch = object()
    assert split_batch(batch) == [batch]


def test_a_bare_tensor_is_cut() -> None:
    first, second = split_batch(torch.arange(6), accumulate=2)
    assert (first.tolist(), second.tolist()) == ([0, 1, 2], [3, 4, 5])


@pytest.mark.parametrize(
    ("batch", "shared", "message"),
    [
        (torch.zeros(5), (), "a batch of 5 rows cannot be shared out evenly among processes=2 x accumulate=1"),
        ({"x": torch.zeros(4), "grid": torch.zeros(3)}, (), "entry 'grid' of the batch has 3 rows where 'x' has 4"),
        ({"x": torch.zeros(4)}, ("x",), "no entry that can be cut; let `shared` name fewer"),
    ],
)
def test_a_batch_that_cannot_be_cut_is_told(batch: Any, shared: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_batch(batch, processes=2, shared=shared)
