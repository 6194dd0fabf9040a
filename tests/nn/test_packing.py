"""Ragged sequences: packed and back, and blocks that work on packed ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.nn.attention import SelfAttention
from saccade.nn.block import DiTBlock
from saccade.nn.feedforward import Mlp
from saccade.nn.modulation import ModulationKind
from saccade.nn.packing import pack, per_token, ragged, unpack
from saccade.nn.part import TokenPositions
from saccade.nn.positions import grid_places

LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@given(lengths=LENGTHS, more=st.integers(0, 2))
def test_unpack_undoes_pack_and_pads_with_zeros(lengths: tuple[int, ...], more: int) -> None:
    keep = ragged(lengths, max(lengths) + more)
    x = torch.randn(*keep.shape, 3)
    packed = pack(x, keep)
    assert packed.lengths == lengths and packed.tokens.shape == (1, sum(lengths), 3)
    assert torch.equal(unpack(packed.tokens, keep), x * keep[..., None])


@given(lengths=LENGTHS)
def test_pack_undoes_unpack(lengths: tuple[int, ...]) -> None:
    keep = ragged(lengths)
    keep = keep[:, torch.randperm(keep.shape[1])]  # any mask will do
    tokens = torch.randn(1, sum(lengths), 2)
    again = pack(unpack(tokens, keep), keep)
    assert torch.equal(again.tokens, tokens) and again.lengths == lengths


def test_gradients_pass_both_ways() -> None:
    keep, x = ragged((2, 3)), torch.randn(2, 3, 2, requires_grad=True)
    weight = torch.randn(2, 3, 2)
    (unpack(pack(x, keep).tokens, keep) * weight).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, weight * keep[..., None])


def test_vectors_are_repeated_for_each_token() -> None:
    each = torch.randn(3, 1, 2)
    assert torch.equal(per_token(each, (2, 1, 3)), each[[0, 0, 1, 2, 2, 2], 0][None])
    assert torch.equal(per_token(each[:1], (2, 1)), each[:1].expand(1, 3, 2).reshape(1, 3, 2))


@pytest.mark.parametrize("modulation", ["zero", "single"])
def test_a_block_works_on_packed_sequences_as_on_each_alone(modulation: ModulationKind) -> None:
    torch.manual_seed(0)
    block = DiTBlock(8, SelfAttention(8, 2, rotary=True), Mlp(8), modulation=modulation)
    for weight in block.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    a, b = torch.randn(1, 7, 8).split((3, 4), dim=1)
    places = grid_places((3, 3))[[0, 4, 8, 1, 2, 3, 5]]
    c = torch.randn(2, 8 if modulation == "zero" else 48)
    packed = block(torch.cat((a, b), dim=1), c, TokenPositions(lengths=(3, 4), places=places)).out
    alone = [
        block(a, c[:1], TokenPositions(places=places[:3])).out,
        block(b, c[1:], TokenPositions(places=places[3:])).out,
    ]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1))


def test_a_grid_named_by_its_places_turns_alike() -> None:
    mixer, x = SelfAttention(8, 2, rotary=True), torch.randn(2, 6, 8)
    assert torch.equal(
        mixer(x, TokenPositions(grid=(2, 3))).out, mixer(x, TokenPositions(places=grid_places((2, 3)))).out
    )


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="keep has room for 5 tokens, not 4; give that of pack"):
        unpack(torch.zeros(1, 4, 2), ragged((2, 3)))
