"""Ranks are places in a stable order."""

import torch

from saccade.ops.ranks import ranks


def test_the_largest_comes_first_and_the_earlier_of_equals() -> None:
    values = torch.tensor([[0.2, 0.5, 0.2, 0.1], [1.0, 1.0, 1.0, 1.0]])
    assert ranks(values).tolist() == [[1, 0, 2, 3], [0, 1, 2, 3]]
