"""Counted multiply-adds against counts made by hand."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from saccade.models import DiT
from saccade.models.macs import macs


class _Attend(nn.Module):
    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, key=k, value=v, **options)


@given(
    groups=st.integers(1, 3), each=st.integers(1, 3), kernel=st.sampled_from((1, 3)), side=st.integers(3, 6),
    where=st.sampled_from(("cpu", "meta")),
)  # fmt: skip
@settings(deadline=None, max_examples=20)
def test_convolutions_count_outputs_times_what_each_reads(
    groups: int, each: int, kernel: int, side: int, where: str
) -> None:
    with torch.device(where):
        conv = nn.Conv2d(groups * each, 2 * groups, kernel, groups=groups, padding=kernel // 2)
        x = torch.zeros(2, groups * each, side, side)
    assert macs(conv, x) == 2 * side**2 * 2 * groups * each * kernel**2


@pytest.mark.parametrize("where", ["cpu", "meta"])
@pytest.mark.parametrize("grad", [False, True])
def test_attention_counts_alike_by_every_kernel(where: str, grad: bool) -> None:
    q, k, v = (torch.zeros(2, 3, n, e, device=where, requires_grad=grad) for n, e in ((5, 8), (7, 8), (7, 4)))
    mask = torch.ones(5, 7, dtype=torch.bool, device=where)
    for options in ({}, {"attn_mask": mask}):
        assert macs(_Attend(), q, k, v, **options) == 2 * 3 * 5 * 7 * (8 + 4)
        assert macs(_Attend(), q, k, v, attention=False, **options) == 0


def test_shared_keys_count_for_every_query_head() -> None:
    q, k = torch.zeros(1, 4, 5, 8), torch.zeros(1, 2, 5, 8)
    assert macs(_Attend(), q, k, k, enable_gqa=True) == 4 * 5 * 5 * 16


@pytest.mark.parametrize("where", ["cpu", "meta"])
def test_a_whole_model(where: str) -> None:
    depth, d, n, patch = 2, 32, 16, 2 * 2 * 3
    with torch.device(where):
        model = DiT(depth=depth, width=d, heads=2, side=8, channels=3, classes=5)
        inputs = torch.zeros(3, 3, 8, 8), torch.zeros(3), torch.zeros(3, dtype=torch.long)
    block = n * (4 * d**2 + 8 * d**2) + 6 * d**2
    ends = n * d * patch + 256 * d + d**2 + 2 * d**2 + n * d * 2 * patch
    assert macs(model, *inputs, attention=False) == 3 * (depth * block + ends)
    assert macs(model, *inputs) == 3 * (depth * (block + 2 * n**2 * d) + ends)
