"""The fewest numbers that reach a sum: the same whether all are sorted or only a range of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saccade.papers.vmoba import fewest
from saccade.papers.vmoba.fewest import fewest_reaching


@settings(max_examples=60)
@given(
    p=st.integers(1, 60), needed=st.floats(0, 1.2), levels=st.sampled_from([1, 2, 5, 10**6]), seed=st.integers(0, 999),
    hidden=st.floats(0, 1),
)  # fmt: skip
def test_sums_by_range_choose_as_sorting_does(p: int, needed: float, levels: int, seed: int, hidden: float) -> None:
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, levels + 1, (3, p), generator=g).float()
    x = (x / x.sum(-1, keepdim=True).clamp(min=1)).masked_fill(torch.rand(3, p, generator=g) < hidden, -1)
    need = torch.full((3, 1), needed)
    with pytest.MonkeyPatch.context() as patch:
        expected = fewest_reaching(x, need)
        patch.setattr(fewest, "MANY", 0)
        assert torch.equal(fewest_reaching(x, need), expected)
    assert bool(expected.any(-1).all())


def test_the_fewest_are_taken_and_ties_go_to_the_earlier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fewest, "MANY", 0)
    x = torch.tensor([[0.1, 0.3, 0.1, 0.4, 0.1]])
    for needed, taken in ((0.0, [3]), (0.4, [3]), (0.45, [1, 3]), (0.75, [0, 1, 3]), (0.85, [0, 1, 2, 3])):
        assert fewest_reaching(x, torch.tensor([[needed]]))[0].nonzero()[:, 0].tolist() == taken
    assert bool(fewest_reaching(x, torch.tensor([[2.0]])).all())
