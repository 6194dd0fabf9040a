"""Subregions: a permutation and its inverse, attention that stays inside, two patterns that reach everywhere."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from saccade.models import DiT
from saccade.models.dit import DiTConfig
from saccade.nn.attention import SelfAttention
from saccade.nn.part import TokenPositions
from saccade.nn.registry import make_mixer
from saccade.papers.e_mmdit.subregions import SubregionAttention, alternating, group_of, join, split

patterns = pytest.mark.parametrize(("regions", "run"), [(4, 1), (4, 4), (2, 3)])


@given(regions=st.integers(1, 5), run=st.integers(1, 5), cells=st.integers(1, 4), batch=st.integers(1, 3))
def test_joining_undoes_splitting(regions: int, run: int, cells: int, batch: int) -> None:
    x = torch.randn(batch, regions * run * cells, 3)
    assert torch.equal(join(split(x, regions, run), regions, run), x)


@given(regions=st.integers(1, 5), run=st.integers(1, 5), cells=st.integers(1, 4))
def test_rows_hold_the_groups_in_order(regions: int, run: int, cells: int) -> None:
    tokens = regions * run * cells
    groups = split(torch.stack([torch.arange(tokens), tokens + torch.arange(tokens)]).float(), regions, run)
    label = torch.tensor([t // run % regions for t in range(tokens)])
    assert torch.equal(group_of(tokens, regions, run), label)
    for row in range(2 * regions):
        wanted = row // regions * tokens + torch.nonzero(label == row % regions).flatten()
        assert torch.equal(groups[row], wanted.float())


@pytest.mark.parametrize("tokens", [80, 128, 256])
@pytest.mark.parametrize("run", [1, 4])
def test_the_networks_lengths_split_evenly(tokens: int, run: int) -> None:
    assert group_of(tokens, 4, run).bincount().tolist() == [tokens // 4] * 4


def test_two_patterns_connect_every_token_with_every_other() -> None:
    first, second = (_same(80, 4, run).float() for run in (1, 4))
    assert not first.all() and not second.all() and (second @ first).bool().all()


def test_what_the_groups_are_on_a_picture() -> None:
    assert torch.equal(group_of(256, 4, 1).view(16, 16), torch.arange(16).remainder(4).expand(16, 16))
    strips = torch.arange(16).div(4, rounding_mode="floor")
    assert torch.equal(group_of(256, 4, 4).view(16, 16), strips.expand(16, 16))
    halves = group_of(64, 4, 4).view(8, 8)
    assert torch.equal(halves[:2], torch.tensor([[0] * 4 + [1] * 4, [2] * 4 + [3] * 4]))
    assert torch.equal(halves[2:], halves[:2].repeat(3, 1))
    coarse = group_of(80, 4, 4)[64:].view(4, 4)
    assert torch.equal(coarse, torch.arange(4)[:, None].expand(4, 4))


@patterns
@pytest.mark.parametrize("rotary", [False, True])
def test_equals_masked_attention(regions: int, run: int, rotary: bool) -> None:
    mixer = SubregionAttention(16, 2, regions=regions, run=run, qk_norm=True, rotary=rotary).double()
    x, place = torch.randn(2, 48, 16, dtype=torch.double), TokenPositions(grid=(6, 8))
    keep = torch.rand(2, 48) > 0.3
    keep[:, :16] = True
    for kept in (None, keep):
        at = replace(place, keep=kept)
        q, k, v = mixer.operands(x, at)
        mask = _same(48, regions, run) & (torch.ones(2, 1, 1, 48).bool() if kept is None else kept[:, None, None])
        wanted = mixer.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))
        torch.testing.assert_close(mixer(x, at).out, wanted)


@patterns
def test_a_token_hears_its_own_group_alone(regions: int, run: int) -> None:
    mixer, x = SubregionAttention(8, 2, regions=regions, run=run), torch.randn(1, 48, 8)
    changed = x.clone()
    changed[:, group_of(48, regions, run) == 0] += 1
    same = (mixer(x, TokenPositions()).out == mixer(changed, TokenPositions()).out).all(-1)[0]
    assert torch.equal(same, group_of(48, regions, run) != 0)


def test_one_region_is_full_attention() -> None:
    mixer, full = SubregionAttention(8, 2, regions=1), SelfAttention(8, 2)
    full.load_state_dict(mixer.state_dict())
    x = torch.randn(2, 7, 8)
    assert torch.equal(mixer(x, TokenPositions()).out, full(x, TokenPositions()).out)


def test_a_dit_alternates() -> None:
    texts = alternating(4, options="qk_norm=True")
    assert texts[1:] == (
        "asa(regions=4, run=1, qk_norm=True)",
        "asa(regions=4, run=4, qk_norm=True)",
        "asa(regions=1, run=1, qk_norm=True)",
    )
    config = DiTConfig(depth=4, width=16, heads=2, side=8, channels=3, mixer=texts)
    model = DiT(config)
    out = model(torch.randn(2, 3, 8, 8), torch.rand(2), torch.tensor([1, 2])).out
    assert out.shape == (2, 6, 8, 8)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="20 tokens must be a multiple of 16, 4 regions of runs of 4; pad or resize"):
        make_mixer("asa(run=4)", 8, 2)(torch.randn(1, 20, 8), TokenPositions())
    with pytest.raises(ValueError, match="regions=0, run=1 must be at least 1; regions=1 is full attention"):
        SubregionAttention(8, 2, regions=0)
    with pytest.raises(ValueError, match=r"asa cannot split packed sequences \(place.lengths=\(3, 5\)\)"):
        SubregionAttention(8, 2)(torch.randn(1, 8, 8), TokenPositions(lengths=(3, 5)))


def _same(tokens: int, regions: int, run: int) -> Tensor:
    """Which pairs share a group."""
    label = torch.tensor([t // run % regions for t in range(tokens)])
    return label[:, None] == label
