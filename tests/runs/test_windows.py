"""Windows in time: counts, conditions, weights, against the released code and by their laws."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from saccade.runs import Windows, triangle
from saccade.runs.windows import pairs, singles, visit_shares

GOLDEN = load_file(Path(__file__).parents[1] / "goldens" / "ditctrl" / "case_windows_and_steps.safetensors")
some_windows = st.builds(
    Windows,
    prompts=st.integers(1, 4), tile=st.integers(4, 9), overlap=st.integers(0, 3), transitions=st.integers(0, 3),
    extra=st.integers(0, 2),
)  # fmt: skip


@pytest.mark.parametrize("row", GOLDEN["table_n_b_m_L_O_S_F"].tolist(), ids=str)
def test_counts_are_those_of_the_released_code(row: list[int]) -> None:
    n, b, m, tile, overlap, count, frames = row
    windows = Windows(prompts=n, transitions=b, extra=m, tile=tile, overlap=overlap)
    assert (windows.count, windows.frames) == (count, frames)


def test_conditions_and_places_are_those_of_the_released_code() -> None:
    windows = Windows(prompts=3, transitions=2, overlap=9)
    found = windows.conditions(GOLDEN["n3_b2_m0_prompt_emb"])
    torch.testing.assert_close(found, GOLDEN["n3_b2_m0_cond"], rtol=0, atol=1e-7)
    assert torch.equal(windows.unconditions(GOLDEN["n3_b2_m0_uncond_emb"]), GOLDEN["n3_b2_m0_uncond"])
    starts = [windows.span(k).start for k in range(windows.count)]
    assert starts == GOLDEN["n3_b2_m0_tile_starts_L13_O9"].tolist() and windows.span(6).stop == windows.frames == 37
    torch.testing.assert_close(triangle(13), GOLDEN["tri_weight_L13"], rtol=0, atol=1e-7)


@given(some_windows)
def test_the_formulas_hold_and_every_frame_is_covered(windows: Windows) -> None:
    n, b, m = windows.prompts, windows.transitions, windows.extra
    assert windows.count == n + b * (n - 1) + m * max(n - 2, 0)
    assert windows.frames == windows.tile + (windows.count - 1) * (windows.tile - windows.overlap)
    covered = torch.zeros(windows.frames)
    for k in range(windows.count):
        covered[windows.span(k)] += 1
    assert covered.min() >= 1 and windows.span(windows.count - 1).stop == windows.frames
    assert len(pairs(windows)) == windows.count - 1 and len(singles(windows)) == windows.count


@given(some_windows)
def test_shares_are_convex_and_prompts_follow_one_another(windows: Windows) -> None:
    shares = windows.shares()
    torch.testing.assert_close(shares.sum(1), torch.ones(windows.frames))
    assert shares.min() >= 0
    runs = windows.segments()
    assert [run.start for run in runs[1:]] == [run.stop for run in runs[:-1]]
    assert (runs[0].start, runs[-1].stop) == (0, windows.frames) and all(run.start < run.stop for run in runs)
    visits = singles(windows) if windows.count == 1 else pairs(windows)
    total = torch.zeros(windows.frames)
    for window, share in zip([w for visit in visits for w in visit], visit_shares(windows, visits), strict=True):
        assert share.min() > 0
        total[windows.span(window)] += share
    torch.testing.assert_close(total, torch.ones(windows.frames))


@given(st.integers(1, 40))
def test_triangles_are_positive_symmetric_and_highest_in_the_middle(tile: int) -> None:
    weight = triangle(tile)
    assert weight.min() > 0
    torch.testing.assert_close(weight, weight.flip(0))
    assert weight.max() == weight[tile // 2] and (tile % 2 == 0 or weight.max() == 1)
    assert triangle(1).tolist() == [1.0]


def test_without_transitions_prompts_change_at_once() -> None:
    windows = Windows(prompts=3, transitions=0, extra=2)
    assert windows.mixes == ((0, 0, 0.0), (1, 1, 0.0), (1, 1, 0.0), (1, 1, 0.0), (2, 2, 0.0))
    embeddings = torch.randn(3, 4, 2)
    assert torch.equal(windows.conditions(embeddings), embeddings[[0, 1, 1, 1, 2]])


def test_the_middle_of_a_transition_is_the_next_prompts() -> None:
    """At equal weights the unconditional embedding is the next prompt's."""
    embeddings = torch.arange(2.0)[:, None]
    assert Windows(prompts=2, transitions=1).unconditions(embeddings).flatten().tolist() == [0, 1, 1]
    assert Windows(prompts=2, transitions=3).unconditions(embeddings).flatten().tolist() == [0, 0, 1, 1, 1]


@pytest.mark.bad_input
def test_what_does_not_fit_is_named() -> None:
    for given_, message in (
        ({"overlap": 13}, "overlap=13 must be below tile=13, or no window would move on"),
        ({"overlap": -1}, "overlap=-1 must be a whole number of at least 0"),
        ({"prompts": 0}, "prompts=0 must be a whole number of at least 1"),
        ({"transitions": 1.5}, "transitions=1.5 must be a whole number"),
        ({"extra": True}, "extra=True must be a whole number"),
    ):
        with pytest.raises(ValueError, match=message):
            Windows(**{"prompts": 2, **given_})
    with pytest.raises(ValueError, match="embeddings are for 3 prompts, the windows for 2"):
        Windows(prompts=2).conditions(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"visits=\(\(0,\),\) leave frame 13 of Windows.* out"):
        visit_shares(Windows(prompts=2), ((0,),))


def test_a_mask_of_tokens_holds_those_of_either_prompt() -> None:
    masks = torch.tensor([[True, True, False], [True, False, False], [True, True, True]])
    windows = Windows(prompts=3, tile=3, overlap=1)
    own = [masks[0], masks[0], masks[1], masks[2], masks[2]]  # between two prompts the longer one's
    assert torch.equal(windows.conditions(masks), torch.stack(own))
    assert torch.equal(windows.unconditions(masks), masks[[0, 1, 1, 2, 2]])
