"""Calls, masks and biases of some batch rows alone are what those rows of the whole are."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.core.biases import DenseBias, LowRank, PerKey
from saccade.core.call import plain_call
from saccade.core.layout import Layout
from saccade.core.mask_rows import of_rows
from saccade.core.masks import KeyPadding, Table, forbid
from saccade.ops import reference

LAYOUT = Layout.joint(text=3, grid=(1, 2, 2))
N = LAYOUT.n
KEEP = KeyPadding(torch.tensor([[True] * N, [True] * 5 + [False] * 2, [False] + [True] * 6]))
LABELS = torch.tensor([[0, 0, 1, 1, 1, 0, 1], [1, 0, 1, 0, 1, 0, 1], [0] * 7])
GROUPS = Table(LABELS, LABELS, torch.eye(2, dtype=torch.bool))
CUT = forbid("text", "image")
MASKS = {"padding": KEEP, "groups": GROUPS, "both": KEEP & GROUPS, "shared": CUT, "mixed": KEEP & CUT}
ROWS = ((2, 0), (1,), (0, 0, 2, 1))


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


BIASES = {
    "low rank": LowRank(drawn(3, 1, N, 2), drawn(1, 2, N, 2)), "by key": PerKey(drawn(3, 1, N)),
    "dense": DenseBias(drawn(3, 1, N, N)), "sum": PerKey(drawn(3, 1, N)) + DenseBias(drawn(1, 2, N, N)),
}  # fmt: skip


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", MASKS)
def test_a_mask_of_rows_is_its_rows(name: str, rows: tuple[int, ...]) -> None:
    mask = MASKS[name]
    found = of_rows(mask, torch.tensor(rows)).materialize(LAYOUT, LAYOUT)
    whole = mask.materialize(LAYOUT, LAYOUT)
    assert torch.equal(found, whole[list(rows)] if len(whole) > 1 else whole)
    assert isinstance(of_rows(KEEP, torch.tensor(rows)), KeyPadding)  # kernels know padding by its class


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", BIASES)
def test_a_bias_of_rows_is_its_rows(name: str, rows: tuple[int, ...]) -> None:
    found = BIASES[name].of_rows(torch.tensor(rows)).materialize(N, N)
    torch.testing.assert_close(found, BIASES[name].materialize(N, N)[list(rows)])


@pytest.mark.parametrize("rows", ROWS)
def test_a_call_of_rows_attends_as_they_do_in_the_whole(rows: tuple[int, ...]) -> None:
    q, k, v = (drawn(3, 2, N, 4) for _ in range(3))
    more: dict[str, Any] = {"layout": LAYOUT, "mask": KEEP, "bias": BIASES["low rank"]}
    call = plain_call(q, k, v, **more)
    torch.testing.assert_close(reference.run(call.of_rows(rows)).out, reference.run(call).out[list(rows)])
