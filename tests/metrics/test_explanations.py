"""Attention against gradients and against marked words: other libraries' numbers, padding, cases without an answer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau, pearsonr
from torch import Tensor

from saccade.metrics.explanations import (
    average_precision,
    entropy,
    gradient_importance,
    iou_f1,
    kendall,
    pearson,
    precision_at_k,
    top_words,
)


def words(seed: int, rows: int = 4, width: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Attention, importance and what is there, at least three words of each."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.arange(width) < torch.randint(3, width + 1, (rows, 1), generator=generator)
    attention = torch.rand(rows, width, generator=generator, dtype=torch.float64).masked_fill(~keep, -torch.inf)
    importance = torch.rand(rows, width, generator=generator, dtype=torch.float64)
    return attention.softmax(-1), importance, keep


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_correlations_are_scipys_over_the_words_that_are_there(seed: int) -> None:
    a, u, keep = words(seed)
    for found, measure in ((pearson(a, u, keep), pearsonr), (kendall(a, u, keep), kendalltau)):
        wanted = [measure(x[k].numpy(), y[k].numpy())[0] for x, y, k in zip(a, u, keep, strict=True)]
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-9)
    torch.testing.assert_close(pearson(a, 3 * u + 1, keep), pearson(a, u, keep))


def test_attention_that_is_even_or_alone_correlates_with_nothing() -> None:
    a = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    keep = torch.tensor([[True] * 4, [True, False, False, False]])
    u = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 9.0, 9.0, 9.0]])
    assert bool(pearson(a, u, keep).isnan().all()) and bool(kendall(a, u, keep).isnan().all())
    even, alone = entropy(a, keep)
    assert abs(float(even) - 1) < 1e-6 and bool(alone.isnan())


def test_importance_is_the_gradient_by_itself_or_times_the_embedding() -> None:
    e, g = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    torch.testing.assert_close(gradient_importance(e, g), (e * g).sum(-1).abs())
    torch.testing.assert_close(gradient_importance(e, g, "norm"), g.square().sum(-1).sqrt())
    with pytest.raises(ValueError, match="kind='sum' is unknown; choose one of product, norm"):
        gradient_importance(e, g, "sum")  # type: ignore[arg-type]


def test_marked_words_are_found_by_rank() -> None:
    a = torch.tensor([[0.4, 0.3, 0.2, 0.1, 0.0], [0.4, 0.3, 0.2, 0.1, 0.9]])
    marks = torch.tensor([[True, False, True, False, False], [False, False, True, True, True]])
    keep = torch.tensor([[True] * 5, [True] * 4 + [False]])
    assert top_words(a, marks, keep).tolist() == [[True, True, False, False, False]] * 2
    np.testing.assert_allclose(average_precision(a, marks, keep), [(1 + 2 / 3) / 2, (1 / 3 + 2 / 4) / 2], atol=1e-6)
    np.testing.assert_allclose(precision_at_k(a, marks, keep), [0.5, 0.0])
    np.testing.assert_allclose(iou_f1(a, marks, keep), [0.0, 0.0])  # one of three, none of four
    best = marks[:1].float()
    assert float(iou_f1(best, marks[:1], keep[:1])) == float(precision_at_k(best, marks[:1], keep[:1])) == 1


def test_a_sentence_without_marks_has_no_score() -> None:
    a, keep = torch.rand(1, 3), torch.ones(1, 3).bool()
    nothing = torch.zeros(1, 3).bool()
    assert all(bool(score(a, nothing, keep).isnan()) for score in (average_precision, precision_at_k, iou_f1))
