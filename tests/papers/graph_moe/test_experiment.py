"""The measurements of the experiment on routing by a graph of tokens."""

from pathlib import Path

import pytest
import torch

from saccade.nn.part import TokenPositions
from saccade.papers.graph_moe.control_moe import WINDOW, ControlMoE
from saccade.papers.graph_moe.experiment import ARMS
from saccade.papers.graph_moe.token_graph import masked_softmax, visible
from saccade.papers.graph_moe.trained_router import Settings, characters, go_on, router_rows, swapped, windows

TINY = Settings(early=2, late=3, depth=1, width=16, length=16, batch=2, held=3, corpus="captions")


def test_a_window_weighs_the_last_tokens_alike() -> None:
    moe, x = ControlMoE(8, mean="window", experts=4), torch.randn(1, 6, 8)
    weights = masked_softmax(moe.scores(x), visible(TokenPositions(causal=True), 6, x.device))[0]
    assert weights[5].tolist() == [0, 0, *[1 / WINDOW] * WINDOW] and weights[1].tolist() == [0.5, 0.5, 0, 0, 0, 0]


def test_random_weights_differ_from_call_to_call() -> None:
    moe, x = ControlMoE(8, mean="random", experts=4), torch.randn(1, 6, 8)
    assert not torch.equal(moe.scores(x), moe.scores(x))


def test_swaps_change_the_named_share_and_no_other_text_comes_in() -> None:
    ids = torch.arange(40_000).view(4, -1)
    changed = swapped(ids, 0.05)
    assert 0.04 < (changed != ids).float().mean() < 0.06
    assert torch.equal(swapped(ids, 0.0), ids) and changed.max() < ids.numel()


def test_windows_lie_within_the_text_and_hold_the_character_to_predict() -> None:
    ids = characters("captions", "held-out")
    found = windows(ids, TINY)
    assert found.shape == (3, TINY.length + 1) and torch.equal(found[-1], ids[-TINY.length - 1 :])


@pytest.mark.slow
def test_what_was_trained_already_gives_the_same_rows(tmp_path: Path) -> None:
    first, again = (list(router_rows(ARMS["plain"], TINY, 0, tmp_path)) for _ in range(2))
    assert first == again and [row["table"] for row in first] == ["losses", "routing"]
    assert first[0]["cost"] == first[0]["swapped"] - first[0]["loss"]


def test_a_training_that_has_gone_on_is_not_set_back(tmp_path: Path) -> None:
    for name in ("early", "late"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "checkpoint.pt").write_text(name)
    go_on(tmp_path / "early", tmp_path / "late")
    assert (tmp_path / "late" / "checkpoint.pt").read_text() == "late"
    go_on(tmp_path / "early", tmp_path / "new")
    assert (tmp_path / "new" / "checkpoint.pt").read_text() == "early"
