"""What blocks cost is measured when asked, kept for the machine, and gone by."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from saccade import ops
from saccade.core.layout import Layout
from saccade.core.masks import lower
from saccade.ops import native, native_cost, native_measure
from saccade.ops.block_cost import BlockCost
from saccade.ops.native_cost import block_costs, keep_costs
from tests.ops.cases import block_mask, call, operands

N = 1280


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(native_cost, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(native, "_state", {"warm": False, "reason": native.COLD})
    native_cost._kept.cache_clear()
    yield
    native_cost._kept.cache_clear()


def cost(full: float) -> tuple[BlockCost, ...]:
    return (BlockCost((128, 128), full, 2 * full), BlockCost((32, 32), 2 * full, 3 * full))


def test_without_measuring_costs_are_those_of_machines_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert block_costs(torch.float32) == native_cost.usual_costs(torch.float32)
    assert block_costs(torch.float64) == native_cost.usual_costs(torch.float32)
    monkeypatch.setattr(native_cost, "instruction_set", lambda: "avx2")
    assert block_costs(torch.float32)[-1] == native_cost.NARROW
    assert all(each.full <= each.mixed for costs in native_cost.USUAL.values() for each in costs)


def test_what_was_measured_is_kept_by_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    keep_costs({torch.float32: cost(0.5)})
    assert block_costs(torch.float32) == cost(0.5)
    assert block_costs(torch.bfloat16) == native_cost.USUAL[torch.bfloat16]
    monkeypatch.setattr(native_cost, "instruction_set", lambda: "another")
    assert block_costs(torch.float32) == native_cost.usual_costs(torch.float32)


def test_a_costly_kernel_leaves_more_to_dense() -> None:
    layout = Layout.plain(N)
    at = call(*operands(1, 1, 1, N, N), lower(block_mask(N, N, keep=0.4, size=128), layout, layout))
    keep_costs({torch.float32: cost(1.0)})
    assert not native.unprofitable(at)
    keep_costs({torch.float32: cost(4.0)})
    assert "of the time of dense, which is taken above 90%" in native.unprofitable(at)[0]


def test_measuring_gives_costs_of_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := ops.warm():
        pytest.skip(reason)
    monkeypatch.setattr(native_measure, "TOKENS", 512)
    found = native_measure.measure_costs(rounds=1)
    for dtype in native.TYPES:
        assert [each.size for each in block_costs(dtype)] == [each.size for each in native_cost.usual_costs(dtype)]
        assert block_costs(dtype) == found[dtype] and all(0 < each.full and 0 < each.mixed for each in found[dtype])
