"""What was read is known to be unchanged, by its version where looking would wait for a device."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from saccade.core.snapshot import Snapshot


def in_place(source: Any) -> None:
    source[0] = 7.0


@pytest.mark.parametrize("make", [list, torch.tensor], ids=["list", "tensor"])
def test_values_that_change_in_place_are_noticed(make: Callable[[list[float]], Any]) -> None:
    source = make([1.0, float("nan")])
    snapshot = Snapshot.of(source)
    assert snapshot.holds(source)
    in_place(source)
    assert not snapshot.holds(source)
    in_place(source)
    assert Snapshot.of(source).holds(source)


def test_a_tensor_on_a_device_is_never_looked_into() -> None:
    source = torch.zeros(3, device="meta")  # which has no values to look at
    snapshot = Snapshot.of(source)
    assert snapshot.holds(source)
    source.add_(1)
    assert not snapshot.holds(source)


def test_one_without_a_version_is_known_by_its_values() -> None:
    with torch.inference_mode():
        source = torch.zeros(3)
        snapshot = Snapshot.of(source)
        assert snapshot.holds(source)
        in_place(source)
        assert not snapshot.holds(source)


def test_nothing_stays_nothing() -> None:
    assert Snapshot.of(None).holds(None)
