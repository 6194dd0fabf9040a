"""Activation scores of channels, and the share that is redundant."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from saccade.nn.part import TokenPositions
from saccade.papers.dico.channels import channel_scores, redundancy
from saccade.papers.dico.conv_mixer import ConvMixer


def test_scores_are_means_of_what_fires_over_all_calls() -> None:
    layer, (x, y) = nn.Linear(3, 4), torch.randn(2, 5, 7, 3).split((1, 1))
    scores = channel_scores(layer, lambda: (layer(x[0]), layer(y[0])))
    torch.testing.assert_close(scores, layer(torch.cat((x, y))).relu().mean((0, 1, 2)).detach())
    assert not layer._forward_hooks and not scores.requires_grad


def test_a_mixer_inside_a_model_is_heard() -> None:
    mixer, x = ConvMixer(4), torch.randn(2, 6, 4)
    block = nn.ModuleDict({"mixer": mixer})
    scores = channel_scores(block["mixer"], lambda: mixer(x, TokenPositions(grid=(2, 3))))
    torch.testing.assert_close(scores, mixer(x, TokenPositions(grid=(2, 3))).out.relu().mean((0, 1)).detach())


@given(scale=st.floats(0.01, 100), count=st.integers(1, 9), silent=st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_redundancy_counts_the_silent_at_any_scale(scale: float, count: int, silent: int) -> None:
    scores = scale * torch.cat((torch.full((count,), 2.0), torch.full((silent,), 0.19)))
    assert redundancy(scores) == pytest.approx(silent / (silent + count))
    assert redundancy(scores, 0.05) == 0


def test_nothing_fires() -> None:
    assert redundancy(torch.zeros(3)) == 1


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"threshold=0 must be in \(0, 1\]"):
        redundancy(torch.ones(3), 0)
    with pytest.raises(ValueError, match=r"run\(\) never called the Linear"):
        channel_scores(nn.Linear(1, 1), lambda: None)
