"""Layouts and masks of every kind, alone and composed."""

import torch
from hypothesis import strategies as st

from saccade.core.layout import Layout, Segment
from saccade.core.masks import KeyPadding, Mask, OnHeads, Table, among, forbid
from saccade.core.places import Band, Causal, Disc, RasterBand, Windows

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
        st.integers(0, 6).map(RasterBand),
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
