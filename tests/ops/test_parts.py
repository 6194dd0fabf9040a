"""Attention split over key groups: the sum is the plain output, and each part is what the map says."""

import pytest
import torch
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.groups import KeyGroups
from saccade.core.layout import Layout
from saccade.core.places import Disc
from saccade.ops.dispatch import attend
from saccade.ops.parts import attend_parts

LAYOUT = Layout.joint(text=5, grid=(1, 6, 5))
LABEL = (torch.arange(LAYOUT.n) % 3)[None]


def grouped(*, mask: bool = False) -> AttentionCall:
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, LAYOUT.n, 8, generator=g, dtype=torch.float64).requires_grad_() for _ in range(3))
    return plain_call(q, k, v, layout=LAYOUT, mask=Disc(3.0) if mask else None, groups=KeyGroups(LABEL, 3))


def weights(call: AttentionCall) -> Tensor:
    scores = call.scale * call.q @ call.k.mT
    if call.mask is not None:
        scores = scores.masked_fill(~call.mask.materialize(LAYOUT, LAYOUT), -torch.inf)
    return scores.softmax(-1)


@pytest.mark.parametrize("mask", [False, True])
def test_parts_are_the_groups_of_one_softmax(mask: bool) -> None:
    call = grouped(mask=mask)
    parts, w = attend_parts(call), weights(call)
    for group in range(3):
        chosen = LABEL[0] == group
        torch.testing.assert_close(parts.mass[group], w[..., chosen].sum(-1))
        out = w[..., chosen] @ call.v[:, :, chosen] / w[..., chosen].sum(-1, keepdim=True)
        torch.testing.assert_close(parts.outs[group], out)
    torch.testing.assert_close(parts.total, attend(call.replace(groups=None)).out)


def test_gradients_pass_through_the_parts_as_through_the_whole() -> None:
    call = grouped()
    operands = (call.q, call.k, call.v)
    split = torch.autograd.grad(attend_parts(call).total.square().sum(), operands)
    whole = torch.autograd.grad((weights(call) @ call.v).square().sum(), operands)
    for ours, theirs in zip(split, whole, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_group_without_a_key_in_sight_has_no_mass_and_a_finite_output() -> None:
    call = grouped().replace(groups=KeyGroups(torch.zeros_like(LABEL), 2))
    parts = attend_parts(call)
    assert (parts.mass[1] == 0).all() and torch.isfinite(parts.outs).all()
    torch.testing.assert_close(parts.total, attend(call.replace(groups=None)).out)


def test_without_groups_the_parts_are_the_kernels_own_output() -> None:
    call = grouped().replace(groups=None)
    parts = attend_parts(call, want_lse=True)
    assert torch.equal(parts.total, attend(call, want_lse=True).out)
    assert parts.lse is not None and parts.masses is None
