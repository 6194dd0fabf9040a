"""Laws of the mask algebra."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.core.blocks import EMPTY, FULL, MIXED
from saccade.core.layout import Layout, Segment
from saccade.core.masks import KeyPadding, Mask, OnHeads, Table, among, forbid, lower
from saccade.core.places import Band, Causal, Disc

LAYOUTS = [
    Layout.joint(text=3, grid=(1, 4, 5)),
    Layout.joint(text=2, grid=(2, 3, 3), text_first=False),
    Layout((Segment("a", "image", 6, (1, 2, 3)), Segment("words", "text", 4), Segment("b", "image", 4, (1, 2, 2)))),
]


def table(layout: Layout, seed: int, heads: int = 2) -> Table:
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(-1, 3, (2, layout.n), generator=g)
    return Table(label, label.flip(0), torch.rand(1, heads, 3, 3, generator=g) > 0.5)


def masks(layout: Layout) -> st.SearchStrategy[Mask]:
    leaves = st.one_of(
        st.floats(0.5, 6).map(Disc),
        st.builds(Band, axis=st.sampled_from(("t", "y", "x")), width=st.integers(1, 4)),
        st.sampled_from([Causal(), Causal(keys=3, ahead=0)]),
        st.sampled_from([forbid("text", "image"), forbid("image", "text"), forbid("a", "b")]),
        st.integers(0, 99).map(lambda seed: table(layout, seed)),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda ab: ab[0] & ab[1]),
            st.tuples(inner, inner).map(lambda ab: ab[0] | ab[1]),
            inner.map(lambda m: m.inverse()),
            inner.map(lambda m: among("image", "image", m)),
        ),
        max_leaves=4,
    )


@st.composite
def layout_and_masks(draw: st.DrawFn, count: int) -> tuple[Layout, list[Mask]]:
    layout = draw(st.sampled_from(LAYOUTS))
    return layout, [draw(masks(layout)) for _ in range(count)]


def full(mask: Mask, layout: Layout) -> torch.Tensor:
    return mask.materialize(layout, layout).expand(2, 2, layout.n, layout.n)


@settings(max_examples=15)  # twelve maps each
@given(layout_and_masks(3))
def test_and_or_commute_associate_and_absorb_themselves(drawn: tuple[Layout, list[Mask]]) -> None:
    layout, (a, b, c) = drawn
    for left, right in (
        (a & b, b & a),
        (a | b, b | a),
        ((a & b) & c, a & (b & c)),
        ((a | b) | c, a | (b | c)),
        (a & a, a),
        (a | a, a),
    ):
        assert torch.equal(full(left, layout), full(right, layout))


@given(layout_and_masks(2))
def test_and_or_are_the_logic_of_the_maps(drawn: tuple[Layout, list[Mask]]) -> None:
    layout, (a, b) = drawn
    assert torch.equal(full(a & b, layout), full(a, layout) & full(b, layout))
    assert torch.equal(full(a | b, layout), full(a, layout) | full(b, layout))


@given(layout_and_masks(1))
def test_inverse_twice_is_the_mask_and_inverse_is_open_where_nothing_is_named(drawn: tuple[Layout, list[Mask]]) -> None:
    layout, (a,) = drawn
    assert torch.equal(full(a.inverse().inverse(), layout), full(a, layout))
    assert (full(a, layout) | full(a.inverse(), layout)).all()


@given(layout_and_masks(1))
def test_keys_never_heard_of_stay_open(drawn: tuple[Layout, list[Mask]]) -> None:
    layout, (a,) = drawn
    if "Causal" in repr(a):
        return  # causal order names every pair by place
    longer = layout.append(Segment("memory", "extra", 3))
    map_ = a.materialize(layout, longer)
    assert map_[..., -3:].all()
    assert torch.equal(map_[..., :-3], a.materialize(layout, layout))


@given(layout_and_masks(1), st.integers(1, 7), st.integers(1, 7), st.integers(0, 9))
def test_block_map_tells_what_the_token_map_holds(drawn, size_q: int, size_k: int, seed: int) -> None:  # noqa: ANN001
    layout, (a,) = drawn
    order = torch.randperm(layout.n, generator=torch.Generator().manual_seed(seed))
    bound = a.bind(layout, layout)
    tokens = bound.token()[:, :, order][..., order]
    blocks = bound.block_map(size_q, size_k, order, order)
    for i, rows in enumerate(tokens.split(size_q, dim=2)):
        for j, block in enumerate(rows.split(size_k, dim=3)):
            seen = block.flatten(2).float().mean(-1)
            expected = torch.where(seen == 0, EMPTY, torch.where(seen == 1, FULL, MIXED))
            assert torch.equal(blocks[:, :, i, j].long(), expected.long())


@given(layout_and_masks(1))
def test_pairs_density_and_empty_row_agree_with_the_map(drawn: tuple[Layout, list[Mask]]) -> None:
    layout, (a,) = drawn
    bound = a.bind(layout, layout)
    tokens = bound.token()
    assert bound.pairs() == int(tokens.sum())
    assert bound.density() == pytest.approx(tokens.float().mean().item())
    lone = (~tokens.any(-1)).nonzero()
    assert bound.empty_row() == (tuple(lone[0].tolist()) if len(lone) else None)


def test_disc_is_strict_and_keeps_grids_apart() -> None:
    layout = LAYOUTS[2]
    seen = Disc(1.0).materialize(layout, layout)[0, 0]
    image = layout.is_("image")
    assert torch.equal(seen[image][:, image], torch.eye(10, dtype=torch.bool)[: len(seen[image])] | _other(layout))
    assert seen[~image].all() and seen[:, ~image].all()


def _other(layout: Layout) -> torch.Tensor:
    """Pairs of image tokens on different grids, which a disc does not name."""
    grid = torch.cat([torch.full((s.n,), i) for i, s in enumerate(layout.of("image"))])
    return grid[:, None] != grid[None]


def test_padding_hides_keys_per_row_of_the_batch() -> None:
    layout = Layout.plain(4)
    keep = torch.tensor([[True, True, False, True], [True, False, False, False]])
    seen = KeyPadding(keep).materialize(layout, layout)
    assert torch.equal(seen, keep[:, None, None, :].expand(2, 1, 4, 4))


def test_on_heads_leaves_the_other_heads_open() -> None:
    layout = LAYOUTS[0]
    seen = OnHeads(Disc(1), (1,), 3).materialize(layout, layout)
    assert seen[:, (0, 2)].all() and not seen[:, 1].all()


def test_lower_drops_a_mask_that_lets_everything_pass() -> None:
    layout = LAYOUTS[0]
    assert lower(Disc(100), layout, layout) is None
    assert lower(None, layout, layout) is None
    assert lower(Disc(2), layout, layout) is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Disc(0), "radius=0 must be positive"),
        (lambda: Band(axis="x", width=0), "width=0 must be at least 1"),
        (lambda: OnHeads(Disc(1), (4,), 3), r"heads=\[4\] must lie in 0..2"),
        (
            lambda: Table(torch.tensor([0, 5]), torch.tensor([0]), torch.ones(2, 2, dtype=torch.bool)),
            "exceed the table",
        ),
        (
            lambda: KeyPadding(torch.ones(1, 9, dtype=torch.bool)).materialize(Layout.plain(4), Layout.plain(4)),
            "does not fit a layout of 4",
        ),
    ],
)
def test_bad_masks_say_what_is_wrong(make, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        make()


def test_causal_order_is_about_the_keys_it_names() -> None:
    words, more = Layout.plain(3), Layout.plain(3).append(Segment("memory", "extra", 2))
    order = torch.ones(3, 3, dtype=torch.bool).tril()
    appended = Causal(keys=3).materialize(words, more)[0, 0]
    assert torch.equal(appended[:, :3], order) and appended[:, 3:].all()
    assert torch.equal(Causal(ahead=0).materialize(words, more)[0, 0, :, :3], order)
    last = Layout.plain(1)
    assert Causal().materialize(last, words).all()
    assert Causal(ahead=0).materialize(last, words)[0, 0, 0].tolist() == [True, False, False]
