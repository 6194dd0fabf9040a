"""Positions, embedders, patches, modulation, routing: the pieces of a block."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from saccade.nn.attention import SelfAttention
from saccade.nn.embedders import sinusoid, unpatchify
from saccade.nn.modulation import TableModulation
from saccade.nn.part import TokenPositions, sides, to_map, to_tokens
from saccade.nn.positions import axis_table, grid_places, grid_table, rotary_table, rotate, split_channels
from saccade.nn.routing import Router, Routing, balance, choose, record_routing, softmax, straight_through


def test_table_names_the_column_first() -> None:
    table = grid_table((2, 3), 8).view(2, 3, 8)
    column = axis_table(torch.arange(3.0), 4)
    row = axis_table(torch.arange(2.0), 4)
    assert torch.equal(table[..., :4], column.expand(2, 3, 4))
    assert torch.equal(table[..., 4:], row[:, None].expand(2, 3, 4))
    torch.testing.assert_close(column[2, :2], torch.tensor([2.0, 0.02]).sin())
    torch.testing.assert_close(column[2, 2:], torch.tensor([2.0, 0.02]).cos())


def test_sinusoid_begins_with_the_cosine() -> None:
    wave = sinusoid(torch.tensor([3.0]))
    three = torch.tensor(3.0)
    torch.testing.assert_close(wave[0, [0, 128]], torch.stack((three.cos(), three.sin())))


@given(t=st.integers(1, 3), h=st.integers(1, 4), w=st.integers(1, 4))
@settings(deadline=None, max_examples=20)
def test_rotation_keeps_norms_and_tells_differences_only(t: int, h: int, w: int) -> None:
    table = rotary_table(grid_places((t, h, w)), split_channels(16, 3))
    q, k = torch.randn(2, t * h * w, 16)
    torch.testing.assert_close(rotate(q, table).norm(dim=-1), q.norm(dim=-1))
    moved = rotary_table(grid_places((t, h, w), start=(3, 1, 2)), split_channels(16, 3))
    torch.testing.assert_close(
        rotate(q, table) @ rotate(k, table).mT, rotate(q, moved) @ rotate(k, moved).mT, atol=1e-4, rtol=1e-4
    )


def test_channels_are_shared_out_in_pairs() -> None:
    assert split_channels(64, 3) == (20, 22, 22) and split_channels(32, 2) == (16, 16)


def test_unpatchify_orders_row_column_channel() -> None:
    tokens = torch.arange(2 * 3 * 12.0).view(1, 6, 12)
    picture = unpatchify(tokens, (2, 3), 2)
    assert picture.shape == (1, 3, 4, 6)
    assert picture[0, 1, 3, 5] == tokens[0, 5, (1 * 2 + 1) * 3 + 1]


def test_affine_table_without_scale_is_the_single_one() -> None:
    single, affine = TableModulation(4), TableModulation(4, affine=True)
    affine.bias.data.copy_(single.bias)
    affine.scale.data.zero_()
    shared = torch.randn(2, 24)
    for a, b in zip(single(shared), affine(shared), strict=True):
        assert torch.equal(a, b)


def test_packed_sequences_do_not_meet() -> None:
    mixer, (a, b) = SelfAttention(8, 2), torch.randn(1, 7, 8).split((3, 4), dim=1)
    packed = mixer(torch.cat((a, b), dim=1), TokenPositions(lengths=(3, 4))).out
    torch.testing.assert_close(packed, torch.cat([mixer(x, TokenPositions()).out for x in (a, b)], dim=1))


def test_padding_is_not_seen_and_causal_looks_back() -> None:
    mixer, x = SelfAttention(8, 2), torch.randn(1, 5, 8)
    keep = torch.tensor([[True, True, True, False, False]])
    torch.testing.assert_close(mixer(x, TokenPositions(keep=keep)).out[:, :3], mixer(x[:, :3], TokenPositions()).out)
    torch.testing.assert_close(
        mixer(x, TokenPositions(causal=True)).out[:, :2], mixer(x[:, :2], TokenPositions(causal=True)).out
    )
    both = mixer(x, TokenPositions(causal=True, keep=keep)).out
    torch.testing.assert_close(both[:, :3], mixer(x[:, :3], TokenPositions(causal=True)).out)


def test_maps_and_tokens_are_inverse() -> None:
    x = torch.randn(2, 6, 5)
    assert torch.equal(to_tokens(to_map(x, (2, 3))), x)
    with pytest.raises(ValueError, match=r"dico needs a grid \(h, w\) of 6 tokens; place.grid=\(3, 3\)"):
        sides(TokenPositions(grid=(3, 3)), 6, "dico")


def test_balance_is_one_when_either_side_is_even() -> None:
    index = torch.randint(4, (10, 1))
    uniform = torch.full((10, 4), 0.25)
    torch.testing.assert_close(balance(Routing(index, uniform[:, :1], uniform)), torch.tensor(1.0))
    probs = torch.rand(8, 4).softmax(-1)
    even = torch.arange(8).remainder(4)[:, None]
    torch.testing.assert_close(balance(Routing(even, probs[:, :1], probs)), torch.tensor(1.0))
    collapsed = torch.eye(4)[torch.zeros(8, dtype=torch.long)]
    torch.testing.assert_close(balance(choose(collapsed, 1)), torch.tensor(4.0))


def test_balance_reaches_what_was_never_chosen() -> None:
    logits = torch.tensor([[3.0, 1.0, 0.0]], requires_grad=True)
    balance(choose(logits.softmax(-1), 1)).backward()
    assert logits.grad is not None and logits.grad[0, 2] != 0


def test_straight_through_is_hard_forward_and_soft_backward() -> None:
    logits = torch.randn(5, 3, requires_grad=True)
    hard = torch.eye(3)[logits.argmax(-1)]
    weight = torch.randn(5, 3)
    passed = straight_through(hard, logits.softmax(-1))
    assert torch.equal(passed, hard)
    (passed * weight).sum().backward()
    wanted = torch.autograd.grad((logits.softmax(-1) * weight).sum(), logits)[0]
    torch.testing.assert_close(logits.grad, wanted)


class _Named(Router):
    def forward(self, x: torch.Tensor) -> Routing:
        return choose(softmax(x, "named"), 2)


def test_recorder_hears_every_router_and_leaves_nothing() -> None:
    model = nn.Sequential(_Named())
    with record_routing(model) as found:
        model(torch.randn(4, 3))
    assert found["0"][0].index.shape == (4, 2) and not model[0]._forward_hooks
    with pytest.raises(ValueError, match="Linear has no router"), record_routing(nn.Linear(1, 1)):
        pass


def test_bad_choices() -> None:
    with pytest.raises(ValueError, match="k=3 must be between 1 and the 2"):
        choose(torch.rand(1, 2), 3)
    with pytest.raises(FloatingPointError, match="router 'gate' has NaN logits"):
        softmax(torch.tensor([float("nan")]), "gate")
