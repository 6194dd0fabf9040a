"""Subspace similarity: 1 for equal spans, symmetric, within [0, 1], r / d for random matrices."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.papers.dreamrelation import attention_subspaces, subspace_similarity
from tests.papers.dreamrelation.tiny import build


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 2**16))
def test_it_is_symmetric_and_between_0_and_1(d: int, i: int, seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    a, b = torch.randn(d, i, generator=made), torch.randn(d, i + 1, generator=made)
    for rank in range(1, min(d, i) + 1):
        one, two = subspace_similarity(a, b, rank), subspace_similarity(b, a, rank)
        assert abs(one - two) < 1e-9 and 0 <= one <= 1
        assert subspace_similarity(a, a, rank) == pytest.approx(1)


def test_equal_spans_are_alike_whatever_their_scale_and_inputs() -> None:
    span = torch.linalg.qr(torch.randn(12, 3).double()).Q
    a, b = span @ torch.randn(3, 8).double(), 7 * span @ torch.randn(3, 5).double()
    assert subspace_similarity(a, b, 3) == pytest.approx(1)
    rest = torch.eye(12).double() - span @ span.mT
    assert subspace_similarity(a, rest, 3) == pytest.approx(0, abs=1e-9)


def test_it_is_the_mean_squared_cosine_of_principal_angles() -> None:
    from scipy.linalg import subspace_angles

    a, b = torch.randn(9, 6).double(), torch.randn(9, 7).double()
    u, v = (torch.linalg.svd(x).U[:, :4].numpy() for x in (a, b))
    import numpy as np

    assert subspace_similarity(a, b, 4) == pytest.approx(float(np.cos(subspace_angles(u, v)).__pow__(2).mean()))


def test_random_matrices_have_r_over_d() -> None:
    torch.manual_seed(0)
    found = [subspace_similarity(torch.randn(24, 24), torch.randn(24, 24), 6) for _ in range(200)]
    assert sum(found) / len(found) == pytest.approx(6 / 24, rel=0.03)


@pytest.mark.host
def test_every_site_of_a_model_has_three_pairs() -> None:
    model, _ = build("mochi")
    rows = list(attention_subspaces(model, rank=3))
    assert [row.pair for row in rows] == ["q-k", "q-v", "k-v"] * len(model.transformer_blocks)
    own = model.transformer_blocks[1].attn1
    assert rows[4].similarity == pytest.approx(subspace_similarity(own.to_q.weight, own.to_v.weight, 3))
    assert rows[0].random == 3 / own.to_q.weight.shape[0] and rows[-1].layer == 1
