"""The mask between scenes: its table, its counts, and that it is the released one's, dense or in runs."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.call import plain_call
from saccade.core.clock import Clock
from saccade.core.layout import Layout, Segment
from saccade.core.masks import Mask
from saccade.core.site import Site, at
from saccade.ops import attend, choose
from saccade.ops.spans import found_runs
from saccade.papers.mask2dit import Mask2DiT, count_scores, scene_table
from tests.papers.mask2dit.three_scenes import golden

SITE = Site(name="blocks.0.attn", kind="joint", heads=2)
PICTURED = Layout.joint(text=4, grid=(1, 1, 1)).append(Segment("reference1", "extra", 1))


def mask(system: Mask2DiT, site: Site = SITE) -> Mask:
    (planned,) = system.plan(site, Clock())
    assert isinstance(planned, Mask)
    return planned


def by_hand(n: int, text: int, video: int, kind: str = "dual") -> Tensor:
    """Pair by pair, as the paper says it: [T_1 .. T_n | V_1 .. V_n]."""
    tokens = [("text", i) for i in range(n) for _ in range(text)] + [
        ("video", i) for i in range(n) for _ in range(video)
    ]

    def sees(a: tuple[str, int], b: tuple[str, int]) -> bool:
        return a[1] == b[1] or (kind == "dual" and a[0] == b[0] == "video")

    return torch.tensor([[sees(a, b) for b in tokens] for a in tokens])


def plain(q: Tensor, k: Tensor, v: Tensor, allow: Tensor) -> Tensor:
    """Attention in float64."""
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~allow, -torch.inf)
    return scores.softmax(-1) @ v


def test_the_mask_is_the_released_ones() -> None:
    stored = golden()["const/allow_packed"].numpy()
    wanted = torch.from_numpy(np.unpackbits(stored, axis=1)[:, :36].astype(bool))
    layout = Layout.joint(text=12, grid=(6, 2, 2))
    assert torch.equal(mask(Mask2DiT(text_tokens=4)).materialize(layout, layout)[0, 0], wanted)
    assert torch.equal(by_hand(3, 4, 8), wanted)


@given(
    n=st.integers(1, 5),
    text=st.integers(1, 4),
    frames=st.integers(1, 2),
    kind=st.sampled_from(["dual", "block_diagonal"]),
)
def test_masks_are_symmetric_see_themselves_and_are_as_written_pair_by_pair(
    n: int, text: int, frames: int, kind: Any
) -> None:
    layout = Layout.joint(text=n * text, grid=(n * frames, 2, 1))
    found = mask(Mask2DiT(text_tokens=text, mask=kind)).materialize(layout, layout)[0, 0]
    assert torch.equal(found, by_hand(n, text, 2 * frames, kind))
    assert torch.equal(found, found.T) and found.diagonal().all()
    if kind == "dual":
        assert int(found.sum()) == count_scores(n, text, 2 * frames)
        dense = (n * (text + 2 * frames)) ** 2
        assert dense - count_scores(n, text, 2 * frames) == n * (n - 1) * (text**2 + 2 * text * 2 * frames)


@given(n=st.integers(1, 6))
def test_the_table_has_n_text_2n_mixed_and_n_squared_video_blocks(n: int) -> None:
    table = scene_table(n)
    assert table[:n, :n].sum() == n and table[:n, n:].sum() + table[n:, :n].sum() == 2 * n
    assert table[n:, n:].sum() == n * n and scene_table(n, "block_diagonal").sum() == 4 * n


def test_a_caption_reaches_other_clips_in_two_layers_and_not_in_one() -> None:
    layout = Layout.joint(text=6, grid=(3, 1, 2))
    once = mask(Mask2DiT(text_tokens=2)).materialize(layout, layout)[0, 0].double()
    first, other = slice(6, 8), slice(2, 4)  # V_0, T_1
    assert not once[first, other].any() and ((once @ once)[first, other] > 0).all()


@pytest.mark.parametrize("kind", ["dual", "block_diagonal"])
@pytest.mark.parametrize("text_first", [True, False])
def test_runs_equal_the_dense_mask_and_pairs_are_counted_exactly(kind: Any, text_first: bool) -> None:
    n, text, video = 3, 5, 12
    layout = Layout.joint(text=n * text, grid=(n * 3, 2, 2), text_first=text_first)
    planned = mask(Mask2DiT(text_tokens=text, mask=kind))
    allow = planned.materialize(layout, layout)[0, 0]
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, layout.n, 8, dtype=torch.float64) for _ in range(3))
    call = plain_call(q, k, v, layout=layout, mask=planned)
    for kernel in ("spans", "sdpa", "reference"):
        torch.testing.assert_close(attend(call, kernel).out, plain(q, k, v, allow), atol=1e-12, rtol=1e-10)
    bound = planned.bind(layout, layout)
    assert bound.regions is not None and bound.pairs() == int(allow.sum())
    if kind == "dual":
        assert bound.pairs() == count_scores(n, text, video)
    assert len(found_runs(call)) == 2 * n
    ones = attend(call.replace(v=torch.ones_like(v))).out
    torch.testing.assert_close(ones, torch.ones_like(ones))  # weights over what is seen sum to 1


def test_long_sequences_are_grouped_by_themselves_and_hold_no_map() -> None:
    n, text, grid = 3, 226, (3 * 13, 30, 45)
    layout = Layout.joint(text=n * text, grid=grid)
    bound = mask(Mask2DiT()).bind(layout, layout)
    assert bound.pairs() == count_scores(n, text, 13 * 30 * 45) and bound.regions is not None
    small = Layout.joint(text=n * text, grid=(3, 12, 12))
    q = torch.randn(1, 1, small.n, 8)
    assert choose(plain_call(q, q, q, layout=small, mask=mask(Mask2DiT()))).kernel == "spans"


def test_one_scene_sees_all_and_none_plans_nothing() -> None:
    layout = Layout.joint(text=4, grid=(2, 2, 2))
    assert mask(Mask2DiT(text_tokens=4)).materialize(layout, layout).all()
    assert Mask2DiT(mask="none").plan(SITE, Clock()) == ()


def test_panels_follow_one_another_along_rows_or_columns() -> None:
    layout = Layout.joint(text=4, grid=(1, 2, 4))
    columns, rows = (
        mask(Mask2DiT(text_tokens=2, along=along)).materialize(layout, layout)[0, 0] for along in ("columns", "rows")
    )
    assert columns[0].tolist() == [1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0]
    assert rows[0].tolist() == [1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]


def test_cross_attention_reads_its_own_caption_and_video_alone_is_dense() -> None:
    cross, alone = (Site(name="b.0.a", kind=kind, heads=2) for kind in ("cross", "self"))
    video, text = Layout.image_only((4, 1, 2)), Layout.plain(6)
    system = Mask2DiT(scenes=2, text_tokens=3, where=at(kind="cross"))
    found = mask(system, cross).materialize(video, text)[0, 0]
    assert found.tolist() == [[1, 1, 1, 0, 0, 0]] * 4 + [[0, 0, 0, 1, 1, 1]] * 4
    assert Mask2DiT(scenes=2).plan(alone, Clock()) == () and Mask2DiT(scenes=2).plan(cross, Clock()) == ()
    own = mask(Mask2DiT(scenes=2, mask="block_diagonal"), alone).materialize(video, video)[0, 0]
    assert own[:4, :4].all() and own[4:, 4:].all() and own.sum() == 32


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "layout", "message"),
    [
        ({"text_tokens": 4}, Layout.joint(text=10, grid=(2, 1, 1)), "has 10 tokens, no multiple of text_tokens=4"),
        ({"text_tokens": 4, "scenes": 3}, Layout.joint(text=8, grid=(3, 1, 1)), "has 8 tokens, not 3 x text_tokens=4"),
        ({"text_tokens": None, "scenes": 3}, Layout.joint(text=8, grid=(3, 1, 1)), "not a multiple of scenes=3"),
        ({"text_tokens": 4}, Layout.joint(text=8, grid=(3, 1, 1)), "has 3 frames, which are no 2 scenes of one length"),
        ({"text_tokens": 4, "along": "rows"}, Layout.joint(text=8, grid=(1, 3, 2)), "has 3 rows, which are no 2"),
        ({"text_tokens": 4}, Layout.image_only((4, 1, 1)), "scenes=None needs text beside the video"),
        ({"text_tokens": 4}, PICTURED, r"segments \['reference1'\] .* belong to no scene"),
    ],
)  # fmt: skip
def test_tokens_that_are_no_scenes_are_named(options: dict[str, Any], layout: Layout, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask(Mask2DiT(**options)).bind(layout, layout)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenes": 0}, "scenes=0 must be at least 1, or None"),
        ({"text_tokens": -1}, "text_tokens=-1 must be at least 1, or None"),
        ({"text_tokens": None}, "scenes=None and text_tokens=None leave the number of scenes open"),
        ({"along": "depth"}, "along='depth' is unknown; choose one of frames, rows, columns"),
        ({"mask": "causal"}, "mask='causal' is unknown; choose one of dual, block_diagonal, none"),
        ({"where": at(heads=(0,))}, r"where.heads=\(0,\) cannot be chosen here"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mask2DiT(**options)
