"""Fluctuation, entropy, load and diversity of routings, counted by hand."""

import pytest
import torch

from saccade.nn.routing import Routing, choose
from saccade.papers.graph_moe.fluctuation import decision_entropy, diversity, fluctuation, load_shares


def _routing(index: list[list[int]], experts: int = 3) -> Routing:
    chosen = torch.tensor(index)[None]
    return Routing(chosen, torch.ones(chosen.shape), torch.full((*chosen.shape[:2], experts), 1 / experts))


def test_sets_count_and_not_their_order() -> None:
    a, b = _routing([[0, 1], [1, 2], [0, 2], [0, 1]]), _routing([[1, 0], [1, 2], [0, 1], [2, 1]])
    assert float(fluctuation(a, b)) == 0.5 and float(fluctuation(a, b, top=1)) == 0.5
    assert float(fluctuation(a, a)) == 0 and float(fluctuation(b, a)) == 0.5


def test_entropy_load_and_diversity() -> None:
    routing = _routing([[0, 1], [0, 1], [0, 2]])
    torch.testing.assert_close(
        decision_entropy(routing), torch.tensor(3.0, dtype=torch.float64).log(), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(load_shares(routing), torch.tensor([3, 2, 1]) / 6)
    assert float(diversity(routing)) == 3
    sure = choose(torch.eye(4)[None], 1)
    assert float(decision_entropy(sure)) == 0 and float(diversity(sure)) == 4


def test_unlike_routings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 2\) of 3 and \(1, 1, 1\) of 3 cannot be compared"):
        fluctuation(_routing([[0, 1]]), _routing([[0]]))
    with pytest.raises(ValueError, match="of 3 and .* of 4 cannot be compared"):
        fluctuation(_routing([[0, 1]]), _routing([[0, 1]], experts=4))
