"""Rollouts and what they are read by: the laws, the follow-up's outputs, rows without maps, and bad input."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from saccade.papers.position_bias import (
    Causal,
    FallingShare,
    Full,
    Prefix,
    Window,
    attention_map,
    front_row,
    head_mean,
    headed_map,
    position_profile,
    rollout,
)

GOLDEN = Path(__file__).parents[2] / "goldens" / "position-bias" / "case_rollout_followup.safetensors"
GRAPHS = st.one_of(
    st.just(Causal()),
    st.integers(1, 14).map(lambda w: Window(width=w)),
    st.integers(1, 9).map(lambda k: Prefix(length=k)),
    st.just(Full()),
)


def scores(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["causal_uniform", "alibi_residual"])
def test_maps_and_rollout_agree_with_the_follow_up(name: str) -> None:
    golden = load_file(GOLDEN)
    with safe_open(GOLDEN, "pt") as file:
        said = json.loads(file.metadata()[name])
    heads, prior = said["attention_config"], said["content_config"]
    found = headed_map(
        said["sequence_length"], heads["alibi_slopes"][0],
        weights=heads["head_weights"][0] if "head_weights" in heads else None,
        diagonal=prior["diagonal_scores"][0], base=prior["base_scores"][0],
        temperature=heads.get("softmax_temperature", 1.0),
    )  # fmt: skip
    share = said["lambda_schedule_config"]["lambda_const"]
    layers = said["num_layers"]
    torch.testing.assert_close(found, golden[f"{name}_A0"], rtol=0, atol=1e-12)
    whole = rollout([found] * layers, residual=share, mask="causal")
    torch.testing.assert_close(whole, golden[f"{name}_P"], rtol=0, atol=1e-12)
    by_layer = rollout([found] * layers, residual=golden[f"{name}_lambdas"].tolist())
    torch.testing.assert_close(by_layer, golden[f"{name}_P"], rtol=0, atol=1e-12)


def test_a_single_prior_is_for_all_heads_or_as_in_the_follow_up_for_the_first() -> None:
    slopes = (0.5, 0.1, 0.2)
    for compat, each in (("none", (0.7, 0.7, 0.7)), ("official", (0.7, 0.0, 0.0))):
        found = headed_map(6, slopes, diagonal=[0.7], compat=compat)  # type: ignore[arg-type]
        torch.testing.assert_close(found, headed_map(6, slopes, diagonal=each))
    assert torch.equal(headed_map(6, slopes, base=[3.0]), headed_map(6, slopes, base=[3.0, 3.0, 3.0]))
    torch.testing.assert_close(headed_map(6, slopes, base=[3.0]), headed_map(6, slopes))
    with pytest.raises(ValueError, match="diagonal has 2 entries for 3 heads"):
        headed_map(6, slopes, diagonal=[1.0, 2.0])
    with pytest.raises(ValueError, match="temperature=0 must be above 0"):
        headed_map(6, slopes, temperature=0)


@given(GRAPHS, st.integers(1, 5), st.floats(0, 3), st.floats(0, 1))
def test_rows_sum_to_one_and_a_past_stays_a_past(graph: object, layers: int, slope: float, share: float) -> None:
    maps = attention_map(9, graph, slope=slope, scores=scores(layers, 2, 9, 9, seed=layers))  # type: ignore[arg-type]
    found = rollout(maps, residual=share)
    torch.testing.assert_close(found.sum(-1), torch.ones(2, 9).double())
    if not isinstance(graph, Prefix | Full):
        assert not found.triu(1).any()


def test_a_rollout_is_the_product_in_order_of_layers() -> None:
    first, second = attention_map(6, scores=scores(2, 6, 6)).unbind()
    torch.testing.assert_close(rollout([first, second]), second @ first)
    torch.testing.assert_close(rollout([first, second], residual=1.0), second @ first)
    assert torch.equal(rollout([first, second], residual=0.0), torch.eye(6).double())
    half = 0.5 * (torch.eye(6).double() + first)
    torch.testing.assert_close(rollout([first], residual=0.5), half)


def test_shares_fall_with_depth_and_are_clipped() -> None:
    maps = [attention_map(5, scores=scores(5, 5, seed=s)) for s in range(3)]
    torch.testing.assert_close(rollout(maps, FallingShare(first=2.0, power=2)), rollout(maps, [1.0, 0.5, 2 / 9]))
    torch.testing.assert_close(rollout(maps, 7.0), rollout(maps))


def test_mixing_heads_before_the_product_is_another_thing() -> None:
    maps = attention_map(7, scores=3 * scores(2, 4, 7, 7))
    each, mixed = rollout(maps), rollout(head_mean(maps))
    assert each.shape == (4, 7, 7) and (head_mean(each) - mixed).abs().max() > 0.01
    one = head_mean(maps, (0, 1, 0, 0))
    torch.testing.assert_close(one, maps[:, 1])


@given(GRAPHS, st.integers(1, 8), st.floats(0, 2), st.integers(0, 11), st.floats(0.1, 1))
def test_a_row_without_maps_is_the_rollouts(graph: object, layers: int, slope: float, row: int, share: float) -> None:
    slope = 0.0 if isinstance(graph, Prefix | Full) else slope
    whole = rollout([attention_map(12, graph, slope=slope)] * layers, residual=share)  # type: ignore[arg-type]
    found = front_row(12, layers, graph, slope=slope, residual=share, row=row)  # type: ignore[arg-type]
    torch.testing.assert_close(found, whole[row], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("slope", [0.1, 0.7])
def test_a_row_of_a_window_with_decay(slope: float) -> None:
    whole = rollout([attention_map(12, Window(width=3), slope=slope)] * 3)
    torch.testing.assert_close(front_row(12, 3, Window(width=3), slope=slope), whole[-1], rtol=1e-9, atol=1e-12)


def test_a_row_of_many_tokens_holds_no_map() -> None:
    row = front_row(100_000, 3, slope=0.01)
    assert row.shape == (100_000,) and float(row.sum()) == pytest.approx(1)


def test_a_profile_reads_a_row() -> None:
    found = position_profile(torch.tensor([0.1, 0.1, 0.5, 0.1, 0.1, 0.1]))
    assert (found.sink, found.peak) == (pytest.approx(0.1), 3)
    assert (found.first, found.middle, found.last) == (pytest.approx(0.2), pytest.approx(0.6), pytest.approx(0.2))
    ends = [position_profile(torch.eye(6)[i]) for i in (0, 5)]
    assert [end.early_bias for end in ends] == [1, 0] and [end.peak for end in ends] == [5, 0]
    assert position_profile(torch.full((8,), 1 / 8)).entropy == pytest.approx(2.0794415)


def test_what_is_no_map_is_refused() -> None:
    good = attention_map(4, scores=scores(4, 4))
    for bad, message in (
        (good[:3], r"maps\[1\] of shape \(3, 4\) must be square"),
        (good * 1.001, r"maps\[1\] has a row that sums to 1 but for 0.001"),
        (good * torch.nan, r"maps\[1\] holds NaN: a row was masked for all keys"),
        (2 * good - torch.eye(4).double(), r"maps\[1\] has .* a negative entry"),
    ):
        with pytest.raises(ValueError, match=message):
            rollout([good, bad])
    with pytest.raises(ValueError, match="attends to later tokens by up to 0.25; leave out mask='causal'"):
        rollout([attention_map(4, Full())], mask="causal")
    assert rollout([good * 1.00005]).shape == (4, 4)
    with pytest.raises(ValueError, match="maps holds no layer"):
        rollout([])
    with pytest.raises(ValueError, match="residual has 1 shares for 2 layers"):
        rollout([good, good], residual=[0.5])
    with pytest.raises(ValueError, match="residual=nan holds NaN"):
        rollout([good], residual=float("nan"))
    with pytest.raises(ValueError, match=r"power=-1 must be a finite number"):
        FallingShare(power=-1)
    with pytest.raises(ValueError, match=r"weights=\[1.0\] must be 2 numbers"):
        head_mean(torch.stack((good, good)), [1.0])
    with pytest.raises(ValueError, match="row of 2 tokens"):
        position_profile(torch.tensor([0.5, 0.5]))
