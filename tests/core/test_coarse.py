"""The shortcuts of masks for long sequences equal the exhaustive answers, and are short."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core import survey
from saccade.core.blocks import FULL, MIXED, Bound
from saccade.core.coarse import Verdict, blocks
from saccade.core.layout import Layout, Segment
from saccade.core.masks import forbid
from saccade.core.places import Disc, Windows, count_within
from tests.core.mask_cases import LAYOUTS, masks


@st.composite
def bound(draw: st.DrawFn) -> Bound:
    layout = draw(st.sampled_from(LAYOUTS))
    return draw(masks(layout)).bind(layout, layout.append(Segment("memory", "extra", 3)))


@given(bound(), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9))
def test_a_verdict_on_a_block_is_never_wrong(bound: Bound, size_q: int, size_k: int, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    q, k = blocks(torch.randperm(bound.n, generator=g), size_q), blocks(torch.randperm(bound.m, generator=g), size_k)
    verdict, tokens = outer(bound, q, k), bound.token()
    for i, rows in enumerate(q):
        for j, keys in enumerate(k):
            block = tokens[:, :, rows][..., keys].flatten(2)
            some, every = (_at(x, i, j, block) for x in (verdict.some, verdict.every))
            assert (block.any(-1) <= some).all() and (every <= block.all(-1)).all()


def outer(bound: Bound, q: Tensor, k: Tensor) -> Verdict:
    """Of every block of queries with every block of keys."""
    return bound.coarse(q, k)(torch.arange(len(q))[:, None], torch.arange(len(k)))


def _at(x: Tensor, i: int, j: int, block: Tensor) -> Tensor:
    return x[:, :, i * (x.shape[2] > 1), j * (x.shape[3] > 1)].expand(block.shape[:2])


@given(bound(), st.integers(1, 9), st.integers(1, 9), st.integers(0, 9), st.booleans())
def test_blocks_given_one_number_have_one_map(bound: Bound, size_q: int, size_k: int, seed: int, moved: bool) -> None:
    g = torch.Generator().manual_seed(seed)
    q, k = (blocks(torch.randperm(n, generator=g) if moved else torch.arange(n), s)
            for n, s in ((bound.n, size_q), (bound.m, size_k)))  # fmt: skip
    i, j = torch.cartesian_prod(torch.arange(len(q)), torch.arange(len(k))).T
    assert bound.features is not None
    numbers, maps = bound.features().alike(q, k)(i, j), bound.at(q[i][:, :, None], k[j][:, None])
    kinds, like = numbers.unique(return_inverse=True)
    first = torch.zeros(len(kinds), dtype=torch.int64).scatter_(0, like, torch.arange(len(i)))
    assert torch.equal(maps, maps[:, :, first[like]])


def test_a_disc_on_a_grid_has_few_kinds_of_blocks() -> None:
    layout = Layout.image_only((4, 16, 16))
    q = blocks(torch.arange(layout.n), 32)
    i, j = torch.cartesian_prod(torch.arange(len(q)), torch.arange(len(q))).T
    features = Disc(3).bind(layout, layout).features
    assert features is not None
    kinds = features().alike(q, q)(i, j).unique()
    assert len(kinds) == 7 * 15  # steps in time and in pairs of lines


@pytest.mark.parametrize("top", [1, 40])
@given(bound=bound(), sizes=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_going_from_coarse_to_fine_finds_the_same_blocks(top: int, bound: Bound, sizes: tuple[int, int]) -> None:
    tokens, folded = bound.token(), [-(-n // s) for n, s in zip((bound.n, bound.m), sizes, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "TOP", top)
        patch.setattr(survey, "JUDGED", 64)
        map_ = bound.block_map(*sizes)
    assert list(map_.shape[2:]) == folded
    for i, j in product(*map(range, folded)):
        block = tokens[:, :, i * sizes[0] : (i + 1) * sizes[0], j * sizes[1] : (j + 1) * sizes[1]].flatten(2)
        assert torch.equal(map_[:, :, i, j], block.any(-1).byte() + block.all(-1))


@given(bound())
def test_counts_and_empty_rows_equal_the_map(bound: Bound) -> None:
    tokens = bound.token()
    lone = (~tokens.any(-1)).nonzero()
    assert bound.pairs() == bound._counted == int(tokens.sum())
    assert bound.empty_row() == (tuple(lone[0].tolist()) if len(lone) else None)


@given(st.tuples(*[st.integers(1, 5)] * 3), st.tuples(*[st.integers(1, 5)] * 3), st.floats(0.1, 9))
def test_places_within_a_radius_are_counted_by_offset(q: tuple, k: tuple, radius: float) -> None:
    at_q, at_k = (torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, 3) for grid in (q, k))
    near = (at_q[:, None] - at_k[None]).pow(2).sum(-1) < radius**2
    assert count_within(q, k, radius) == int(near.sum())


@given(st.sampled_from(LAYOUTS), st.integers(1, 5))
def test_windows_part_the_image_and_leave_text_alone(layout: Layout, size: int) -> None:
    seen, image = Windows(size).materialize(layout, layout)[0, 0], layout.is_("image")
    at = layout.coords()
    same = (at[:, None, 1:] // size == at[None, :, 1:] // size).all(-1)
    grid = torch.cat([torch.full((s.n,), i) for i, s in enumerate(layout.segments)])
    assert torch.equal(seen, same | ~(image[:, None] & image) | (grid[:, None] != grid))


def test_a_disc_with_a_veil_has_a_closed_count() -> None:
    layout = Layout.joint(text=3, grid=(1, 6, 7))
    longer = layout.append(Segment("pooled", "extra", 4))
    tied = (Disc(2.5) & forbid("text", "pooled")).bind(layout, longer)
    assert tied.closed == int(tied.token().sum())


def test_blocks_inside_a_window_are_judged_without_a_look() -> None:
    layout = Layout.image_only((1, 64, 64))
    q = blocks(torch.arange(layout.n), 64)
    verdict = outer(Disc(8).bind(layout, layout), q, q)
    assert (verdict.some[0, 0].sum(-1) <= 15).all()  # a line of 64 tokens meets 7 lines above and below


def test_only_blocks_on_the_border_are_looked_into() -> None:
    layout = Layout.joint(text=512, grid=(1, 128, 128))
    looked: list[int] = []
    tied = Disc(8).bind(layout, layout)
    watched = Bound(
        _watch(tied.allows, looked), tied.n, tied.m, 1, 1, tied.device, tied.coarse, tied.closed, tied.features
    )
    map_ = watched.block_map(128, 128)
    assert 0 < sum(looked) < 0.01 * layout.n**2  # of each kind one
    assert max(looked) <= 1 << 20
    assert (map_ == FULL).any() and (map_ == MIXED).any()


def _watch(allows: Callable[..., Tensor], looked: list[int]):  # noqa: ANN202
    def watch(*at: Tensor) -> Tensor:
        answer = allows(*at)
        looked.append(answer.numel())
        return answer

    return watch
