"""Columns of the attention map are those of the whole map, with every kind of mask and bias."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.biases import DenseBias, LowRank, PerKey
from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Layout
from saccade.core.masks import KeyPadding
from saccade.core.places import Disc
from saccade.ops import attend, reference
from saccade.ops.columns import HELD, key_columns, span_lse

LAYOUT = Layout.joint(text=5, grid=(1, 3, 4))
IMAGE, TEXT = LAYOUT.span("image"), LAYOUT.span("text")


def made(bias: str, mask: str, *, shared: int = 1, dtype: torch.dtype = torch.float64) -> AttentionCall:
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=dtype)

    n, h = LAYOUT.n, 4
    biases = {
        "none": None,
        "factors": LowRank(draw(1, h, n, 2), draw(2, 1, n, 2)) + PerKey(draw(2, 1, n)),
        "dense": DenseBias(draw(2, 1, n, n)),
    }
    keep = torch.ones(2, n, dtype=torch.bool)
    keep[1, 3] = False
    masks = {"none": None, "disc": Disc(1.5), "padding": KeyPadding(keep), "both": Disc(1.5) & KeyPadding(keep)}
    q, k, v = draw(2, h, n, 8), draw(2, h // shared, n, 8), draw(2, h // shared, n, 8)
    return plain_call(q, k, v, layout=LAYOUT, bias=biases[bias], mask=masks[mask], scale=0.4)


def whole_map(call: AttentionCall) -> Tensor:
    """(b h n m) in float64, step by step."""
    k = call.k.repeat_interleave(call.q.shape[1] // call.k.shape[1], dim=1)
    scores = call.q.double() @ k.double().mT * call.scale
    if call.bias is not None:
        scores = scores + call.bias.materialize(call.q.shape[2], call.k.shape[2])
    if call.mask is not None:
        scores = scores.masked_fill(~call.mask.materialize(call.layout_q, call.layout_k), -torch.inf)
    return scores.softmax(-1)


@pytest.mark.parametrize("mask", ["none", "disc", "padding", "both"])
@pytest.mark.parametrize("bias", ["none", "factors", "dense"])
@pytest.mark.parametrize("keys", [[[1, 3, 6]], [[1, 3, 6], [0, 0, 16]]], ids=["one choice", "by row"])
def test_columns_are_those_of_the_map(bias: str, mask: str, keys: list[list[int]]) -> None:
    call, at = made(bias, mask), torch.tensor(keys)
    lse = reference.run(call, want_lse=True).lse
    assert lse is not None
    found = key_columns(call, lse[:, :, IMAGE], at, IMAGE)
    whole = whole_map(call)[:, :, IMAGE]
    expected = torch.stack([whole[b][..., at[b % len(at)]] for b in range(2)])
    torch.testing.assert_close(found, expected, atol=1e-14, rtol=1e-13)


def test_all_columns_sum_to_one_with_shared_keys() -> None:
    call = made("none", "none", shared=2)
    lse = reference.run(call, want_lse=True).lse
    assert lse is not None
    found = key_columns(call, lse, torch.arange(LAYOUT.n)[None], slice(0, LAYOUT.n))
    torch.testing.assert_close(found, whole_map(call), atol=1e-14, rtol=1e-13)
    torch.testing.assert_close(found.sum(-1), torch.ones_like(lse), atol=1e-13, rtol=0)


def test_the_kernels_own_lse_is_good_to_single_precision() -> None:
    call = made("none", "none", dtype=torch.float32)
    partial = attend(call, want_lse=True)
    assert partial.lse is not None
    found = key_columns(call, partial.lse[:, :, IMAGE], torch.tensor([[2]]), IMAGE)
    torch.testing.assert_close(found.double(), whole_map(call)[:, :, IMAGE, 2:3], atol=1e-6, rtol=1e-5)


def test_a_query_without_a_key_attends_to_nothing() -> None:
    call = made("none", "none").replace(mask=KeyPadding(torch.zeros(2, LAYOUT.n, dtype=torch.bool)))
    lse = torch.full((2, 4, LAYOUT.n), -torch.inf, dtype=torch.float64)
    assert not key_columns(call, lse, torch.tensor([[2]]), slice(0, LAYOUT.n)).any()


@given(held=st.sampled_from([1, 50, 333, HELD]), mask=st.sampled_from(["none", "both"]))
def test_the_sum_over_a_span_does_not_depend_on_how_it_is_cut(held: int, mask: str) -> None:
    call = made("factors", mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("saccade.ops.columns.HELD", held)
        found = span_lse(call, TEXT, IMAGE)
    bare = call.replace(layout_k=Layout.plain(5), k=call.k[:, :, TEXT], bias=None, mask=None)
    assert call.bias is not None
    scores = bare.q[:, :, IMAGE] @ bare.k.mT * call.scale
    scores = scores + call.bias.materialize(LAYOUT.n, LAYOUT.n)[:, :, IMAGE, TEXT]
    if call.mask is not None:
        scores = scores.masked_fill(~call.mask.materialize(LAYOUT, LAYOUT)[:, :, IMAGE, TEXT], -torch.inf)
    torch.testing.assert_close(found, scores.logsumexp(-1), atol=1e-13, rtol=0)
