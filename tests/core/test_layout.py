"""Layouts, rows, sites and clocks as values."""

import pytest
import torch

from saccade.core.clock import Clock
from saccade.core.layout import Layout, Segment
from saccade.core.rows import Rows
from saccade.core.site import EVERYWHERE, Site, at


def test_text_may_stand_first_or_last() -> None:
    first, last = (Layout.joint(text=3, grid=(1, 2, 2), text_first=flag) for flag in (True, False))
    assert (first.span("text"), last.span("text")) == (slice(0, 3), slice(4, 7))
    assert first.is_("text").tolist() == last.is_("text").flip(0).tolist()


def test_coords_run_in_raster_order_and_mark_tokens_without_a_grid() -> None:
    coords = Layout.joint(text=1, grid=(2, 1, 2)).coords()
    assert coords.tolist() == [[-1, -1, -1], [0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]


def test_layouts_are_values() -> None:
    a, b = (Layout.joint(text=3, grid=(1, 2, 2)) for _ in range(2))
    assert a == b and hash(a) == hash(b) and a.append(Segment("m", "extra", 1)) != a


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segment("x", "image", 5, (1, 2, 2)), r"grid=\(1, 2, 2\) of segment 'x' holds 4 tokens, not n=5"),
        (lambda: Segment("x", "words", 5), "kind='words' of segment 'x' must be one of"),
        (lambda: Segment("x", "text", -1), "n=-1 of segment 'x' must not be negative"),
        (lambda: Layout((Segment("x", "text", 1), Segment("x", "image", 1))), "must differ"),
        (lambda: Layout.plain(3).span("image"), "segment 'image' is not in the layout"),
        (lambda: Layout.plain(3).image, "has 0 image grids where one is needed"),
        (lambda: Rows(("cond",), (0, 1)), "1 roles and 2 samples"),
        (lambda: Rows(("left",), (0,)), r"roles \['left'\]"),
        (lambda: at(during=(0.5, 0.2)), r"during=\(0.5, 0.2\) must be a rising pair"),
    ],
)
def test_bad_values_say_what_is_wrong(make, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        make()


def test_rows_find_their_roles() -> None:
    rows = Rows.of("uncond", "cond", samples=2)
    assert rows.where("cond") == (2, 3) and rows.samples == (0, 1, 0, 1) and rows.n == 4


def test_rows_of_an_edit_are_paired_within_their_branch_of_guidance() -> None:
    rows = Rows.of("source", "target", samples=2).under("uncond", "cond")
    assert rows.where("target") == (2, 3, 6, 7) and rows.where("cond") == (4, 5, 6, 7)
    assert rows.pairs() == ((2, 0), (3, 1), (6, 4), (7, 5))
    assert Rows(("target", "source", "target"), (0, 0, 0)).pairs() == ((0, 1), (2, 1))
    with pytest.raises(
        ValueError, match=r"target rows \[2\] have no source row of their sample.*give Rows.of\('source'"
    ):
        Rows(("source", "target", "target"), (0, 0, 1)).pairs()
    with pytest.raises(ValueError, match="1 branches and 2 roles must be as many"):
        Rows(("source", "target"), (0, 0), ("cond",))


def test_cross_sites_are_left_alone_unless_asked() -> None:
    cross = Site(name="blocks.0.attn2", kind="cross")
    assert not EVERYWHERE.covers(cross)
    assert at("*attn2", kind="cross").covers(cross)
    assert not at("*attn1").covers(Site(name="blocks.0.attn2"))


def test_sites_are_chosen_by_share_of_depth_and_last_stage() -> None:
    sites = [Site(name=f"{'ab'[i > 1]}.{i}", index=i, count=5, stage=int(i > 1), stages=2) for i in range(5)]
    fifth = [False, False, False, False, True]
    assert [at(depth=(0.5, 1.0)).covers(site) for site in sites] == [False, False, False, True, True]
    assert [at(depth=(0.8, 1.0)).covers(site) for site in sites] == fifth
    assert [at(stage="last").covers(site) for site in sites] == [False, False, True, True, True]
    assert [at("*.4", stage="last").covers(site) for site in sites] == fifth
    with pytest.raises(
        ValueError, match=r"depth=\(0.5, 1.5\) must be a rising pair within \[0, 1\], in shares of the site"
    ):
        at(depth=(0.5, 1.5))
    with pytest.raises(ValueError, match=r"stage='first' must be one of \('all', 'last'\)"):
        at(stage="first")  # type: ignore[arg-type]


def test_during_is_a_half_open_span_of_progress() -> None:
    first_half = at(during=(0, 0.5))
    active = [first_half.active(Clock(step=step, num_steps=4)) for step in range(4)]
    assert active == [True, True, False, False]


def test_depth_runs_from_zero_to_one() -> None:
    assert [Site(name="s", index=i, count=3).depth for i in range(3)] == [0, 0.5, 1]
    assert torch.isfinite(torch.tensor(Site(name="s").depth))
