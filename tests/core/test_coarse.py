"""The shortcuts of masks for long sequences equal the exhaustive answers, and are short."""

from collections.abc import Callable

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.blocks import FULL, MIXED, Bound
from saccade.core.coarse import Verdict, blocks
from saccade.core.layout import Layout, Segment
from saccade.core.masks import KeyPadding, Mask, OnHeads, Table, among, forbid
from saccade.core.places import Band, Causal, Disc, Windows, count_within

TWO = Layout((Segment("a", "image", 12, (1, 3, 4)), Segment("words", "text", 5), Segment("b", "image", 8, (2, 2, 2))))
LAYOUTS = [Layout.joint(text=3, grid=(1, 6, 7)), Layout.joint(text=2, grid=(2, 4, 3), text_first=False), TWO]


def bands(layout: Layout) -> Table:
    """Classes that fill whole blocks, so that the table can be judged."""
    label = torch.arange(layout.n) // 6 - 1
    allow = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) > 0.5
    return Table(label, label, allow)


def leaves(layout: Layout) -> st.SearchStrategy[Mask]:
    keep = torch.arange(layout.n)[None] < torch.tensor([[layout.n - 4], [layout.n]])
    return st.one_of(
        st.floats(0.5, 8).map(Disc),
        st.builds(Band, axis=st.sampled_from(("t", "y", "x")), width=st.integers(1, 4)),
        st.integers(1, 4).map(Windows),
        st.floats(1, 4).map(lambda r: OnHeads(Disc(r), (0, 2), 3)),
        st.sampled_from([forbid("text", "image"), forbid("image", "a"), Causal(), KeyPadding(keep), bands(layout)]),
    )


def masks(layout: Layout) -> st.SearchStrategy[Mask]:
    pairs = lambda inner: st.tuples(inner, inner)  # noqa: E731
    return st.recursive(
        leaves(layout),
        lambda inner: st.one_of(
            pairs(inner).map(lambda ab: ab[0] & ab[1]),
            pairs(inner).map(lambda ab: ab[0] | ab[1]),
            inner.map(lambda m: m.inverse()),
            inner.map(lambda m: among("image", "image", m)),
        ),
        max_leaves=3,
    )


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
    watched = Bound(_watch(tied.allows, looked), tied.n, tied.m, 1, 1, tied.device, tied.coarse, tied.closed)
    map_ = watched.block_map(128, 128)
    assert sum(looked) < 0.15 * layout.n**2
    assert max(looked) <= 1 << 20
    assert (map_ == FULL).any() and (map_ == MIXED).any()


def _watch(allows: Callable[..., Tensor], looked: list[int]):  # noqa: ANN202
    def watch(*at: Tensor) -> Tensor:
        answer = allows(*at)
        looked.append(answer.numel())
        return answer

    return watch
