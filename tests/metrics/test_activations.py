"""Bytes kept for the backward pass, counted by hand."""

import torch
from torch import nn

from saccade.metrics.activations import kept_bytes


def test_a_linear_layer_keeps_its_input_and_not_its_weights() -> None:
    layer, x = nn.Linear(8, 4), torch.randn(16, 8)
    assert kept_bytes(lambda: layer(x), layer.parameters()) == x.nbytes


def test_a_storage_counts_once_and_no_gradient_keeps_nothing() -> None:
    x = torch.randn(10, requires_grad=True)
    assert kept_bytes(lambda: x.exp() * x.sin()) == 4 * x.nbytes - x.nbytes  # x, exp, sin
    with torch.no_grad():
        assert kept_bytes(lambda: x.exp() * x.sin()) == 0


def test_doubles_with_the_batch() -> None:
    layer = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
    one, two = (kept_bytes(lambda n=n: layer(torch.randn(n, 8)), layer.parameters()) for n in (4, 8))
    assert two == 2 * one
