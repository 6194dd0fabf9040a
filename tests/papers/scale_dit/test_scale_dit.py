"""Scale-DiT's mask: against loops over tokens, the official masks, and the counts the authors print."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from saccade.core.clock import Clock
from saccade.core.layout import Layout
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site
from saccade.papers.scale_dit import ScaleDiT, anchored
from saccade.papers.scale_dit.near import AnchorWindows

GOLDENS = load_file(Path(__file__).parents[2] / "goldens" / "scale-dit" / "case_masks.safetensors")
SMALL = anchored(text=2, high=(4, 12), low=(2, 6))
masks = st.builds(
    ScaleDiT,
    window=st.sampled_from((2, 4)),
    local=st.sampled_from(("box", "cross", "shifted")),
    neighbours=st.sampled_from(("row", "grid")),
    text=st.sampled_from(("limited", "all")),
    low_sees_text=st.booleans(),
    low=st.sampled_from(("windows", "all")),
)


def bits(packed: Tensor, m: int) -> Tensor:
    """Unpacked along the last axis, least significant bit first."""
    return ((packed[..., None] >> torch.arange(8)) & 1).flatten(-2)[..., :m].bool()


def by_loops(system: ScaleDiT, layout: Layout, site: int = 0) -> Tensor:
    """The specification, pair by pair."""
    (rows, columns), (low_rows, low_columns) = ((s.grid[1], s.grid[2]) for s in layout.segments[1:])  # type: ignore[index]
    ratio, w = rows // low_rows, system.window
    small, across = w // ratio, columns // w
    tokens = [("text", 0, 0)] * layout.text_n
    tokens += [("image", y, x) for y, x in itertools.product(range(rows), range(columns))]
    tokens += [("low", y, x) for y, x in itertools.product(range(low_rows), range(low_columns))]

    def local(y: int, x: int, v: int, u: int) -> bool:
        if system.local == "box":
            return abs(y - v) <= w // 2 and abs(x - u) <= w // 2
        shift = 1 if system.local == "cross" else w // 2 * (site % 2)
        (y, v), (x, u) = ([(a + shift) % n // w for a in pair] for n, pair in ((rows, (y, v)), (columns, (x, u))))
        return abs(y - v) + abs(x - u) <= (system.local == "cross")

    def anchor(y: int, x: int, v: int, u: int) -> bool:
        (a, b), (c, d) = (y // w, x // w), (v // small, u // small)
        if system.neighbours == "grid":
            return abs(a - c) <= 1 and abs(b - d) <= 1
        return abs(a * across + b - c * across - d) <= 1

    def seen(q: tuple[str, int, int], k: tuple[str, int, int]) -> bool:
        (of, y, x), (to, v, u) = q, k
        match of, to:
            case "text", "low":
                return system.text == "all"
            case "image", "image":
                return local(y, x, v, u)
            case "image", "low":
                return system.low == "all" or anchor(y, x, v, u)
            case "low", "text":
                return system.low_sees_text
            case "low", "image":
                return False
            case "low", "low":
                return system.low == "all" or (abs(y - v) <= small // 2 and abs(x - u) <= small // 2)
        return True

    return torch.tensor([[seen(q, k) for k in tokens] for q in tokens])


@settings(max_examples=20, deadline=None)
@given(masks, st.integers(0, 1))
def test_equals_the_loops_over_tokens(system: ScaleDiT, site: int) -> None:
    assert torch.equal(system.mask(site).materialize(SMALL, SMALL)[0, 0], by_loops(system, SMALL, site))


@settings(max_examples=20, deadline=None)
@given(masks, st.integers(0, 1))
def test_counts_and_blocks_agree_with_the_tokens(system: ScaleDiT, site: int) -> None:
    bound = system.mask(site).bind(SMALL, SMALL)
    token = bound.token()
    assert bound.pairs() == token.sum()
    order = torch.randperm(SMALL.n, generator=torch.Generator().manual_seed(site))
    found = bound.block_map(6, 5, order, order)[0, 0]
    tokens = token[0, 0][order][:, order]
    expected = torch.tensor([[(t := block).any().int() + t.all().int() for block in row.split(5, 1)]
                             for row in tokens.split(6, 0)])  # fmt: skip
    assert torch.equal(found.int(), expected.int())


def test_the_training_mask_is_the_official_one() -> None:
    layout = anchored(text=6, high=(8, 12), low=(2, 3))
    expected = bits(GOLDENS["train_builder.sliding_limited_bits"], layout.n)
    assert torch.equal(ScaleDiT.training(window=4).mask().materialize(layout, layout)[0, 0], expected)


def test_1024_pixels_have_the_pairs_the_authors_count() -> None:
    layout = anchored(text=512, high=(64, 64), low=(16, 16))
    bound = ScaleDiT().mask().bind(layout, layout)
    assert layout.n == 4864 and bound.pairs() == 5_682_596
    assert round(100 * bound.density(), 2) == 24.02


def test_an_inner_token_has_17_by_17_keys() -> None:
    layout = anchored(text=0, high=(64, 64), low=None)
    assert ScaleDiT().mask().bind(layout, layout).token(torch.tensor([32 * 64 + 32])).sum() == 289


def test_the_row_rule_wraps_and_the_grid_rule_looks_up_and_down() -> None:
    layout = anchored(text=0, high=(8, 8), low=(4, 4))
    first_of_second_row = torch.tensor([4 * 8])
    low = slice(64, 80)

    def seen(mask: AnchorWindows) -> list[int]:
        return mask.bind(layout, layout).token(first_of_second_row)[0, 0, 0, low].view(4, 4)[::2, ::2].int().tolist()

    assert seen(AnchorWindows(4)) == [[0, 1], [1, 1]]
    wide = anchored(text=0, high=(8, 16), low=(4, 8))
    row = AnchorWindows(4).bind(wide, wide).token(torch.tensor([4 * 16]))[0, 0, 0, 128:].view(4, 8)[::2, ::2]
    assert row.int().tolist() == [[0, 0, 0, 1], [1, 1, 0, 0]]
    grid = AnchorWindows(4, "grid").bind(wide, wide).token(torch.tensor([4 * 16]))[0, 0, 0, 128:].view(4, 8)[::2, ::2]
    assert grid.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]


def test_keys_appended_by_others_stay_open() -> None:
    from saccade.core.layout import Segment

    more = SMALL.append(Segment("memory", "extra", 2))
    for system in (ScaleDiT(window=4), ScaleDiT(window=4, expand="window")):
        assert system.mask().bind(SMALL, more).token()[..., -2:].all()


def test_plans_repeat_and_keep_to_where_and_parity() -> None:
    system = ScaleDiT(window=4, local="shifted")

    def plan(index: int, kind: str = "joint") -> tuple[PlanItem, ...]:
        return system.plan(Site(name="a", index=index, count=4, kind=kind), Clock())  # type: ignore[arg-type]

    assert plan(0) == plan(2) != plan(1) == plan(3)
    assert plan(0, "cross") == ()
    assert ScaleDiT(window=4).mask(0) == ScaleDiT(window=4).mask(1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window=0 must be at least 1 image token; the paper has 16"),
        ({"window": "16"}, "window='16' must be a number"),
        ({"local": "disc"}, "local='disc' is unknown; choose one of box, cross, shifted"),
        ({"neighbours": "all"}, "neighbours='all' is unknown; choose one of row, grid"),
        ({"text": "none"}, "text='none' is unknown; choose one of limited, all"),
        ({"low": "near"}, "low='near' is unknown; choose one of windows, all"),
        ({"expand": "zigzag"}, "expand='zigzag' is unknown; choose one of window, hilbert, raster"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScaleDiT(**options)  # type: ignore[arg-type]


def test_heads_are_chosen_by_attach() -> None:
    from saccade.core.site import at

    with pytest.raises(ValueError, match=r"where.heads=\(0,\) cannot be chosen here; pass where= to attach instead"):
        ScaleDiT(where=at(heads=(0,)))


@pytest.mark.parametrize(
    ("high", "low", "message"),
    [
        ((64, 64), (15, 16), r"high=\(64, 64\) tokens must be a whole multiple of low=\(15, 16\)"),
        ((64, 64), (16, 32), "the same along both axes"),
        ((64, 66), (16, 16), "must be a whole multiple"),
        ((64, 64), (0, 0), "must be a whole multiple"),
    ],
)
def test_ratios_that_are_no_whole_number_or_differ_are_refused(
    high: tuple[int, int], low: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        anchored(text=8, high=high, low=low)


def test_grids_that_windows_do_not_fill_are_refused() -> None:
    odd = anchored(text=8, high=(24, 40), low=(6, 10))
    with pytest.raises(ValueError, match=r"a grid of \(24, 40\) tokens is not filled by windows of window=16"):
        ScaleDiT().mask().bind(odd, odd)
    halves = anchored(text=8, high=(24, 24), low=(6, 6))
    with pytest.raises(
        ValueError, match=r"window=6 must be a multiple of the ratio 4 of \(24, 24\) to \(6, 6\) tokens"
    ):
        ScaleDiT(window=6).mask().bind(halves, halves)
    assert ScaleDiT.training(window=6).mask().bind(halves, halves).pairs()  # without windows of the copy all sizes do


def test_videos_are_refused() -> None:
    video = Layout.joint(text=3, grid=(2, 4, 4))
    with pytest.raises(ValueError, match="segment 'image' has 2 frames; windows are for pictures"):
        ScaleDiT(window=4).mask().bind(video, video)
