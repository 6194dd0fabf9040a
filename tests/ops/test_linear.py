"""Linear attention is a weighted mean with weights phi(q) phi(k)."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.ops.linear import elu_features, linear


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 2), st.integers(1, 3))
def test_it_is_the_weighted_mean_that_features_give(n: int, m: int, groups: int, share: int) -> None:
    torch.manual_seed(n * m)
    q = torch.randn(2, groups * share, n, 4, dtype=torch.float64)
    k, v = torch.randn(2, groups, m, 4, dtype=torch.float64), torch.randn(2, groups, m, 3, dtype=torch.float64)
    left, right = elu_features(q), elu_features(k)
    for head in range(groups * share):
        weights = left[:, head] @ right[:, head // share].mT
        expected = weights / weights.sum(-1, keepdim=True) @ v[:, head // share]
        torch.testing.assert_close(linear(q, k, v)[:, head], expected)


def test_gradients() -> None:
    torch.manual_seed(0)
    operands = [torch.randn(1, 2, 5, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(linear, operands)
