"""Indicators of maps: closed forms of uniform attention, extremes, plain loops, and what is refused."""

from math import log, sqrt

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.metrics.attention_maps import (
    concentration,
    diversity,
    entropy,
    indicators,
    locality,
    min_max,
    sink,
)


def random_maps(heads: int = 3, n: int = 6, rows: int = 2) -> Tensor:
    logits = torch.randn(rows, heads, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ahead = torch.ones(n, n, dtype=torch.bool).triu(1)
    return logits.masked_fill(ahead, -torch.inf).softmax(-1)


@given(st.integers(1, 40))
def test_uniform_attention_has_closed_forms(n: int) -> None:
    maps = torch.ones(n, n, dtype=torch.float64).tril() / torch.arange(1, n + 1)[:, None]
    harmonic = sum(1 / i for i in range(1, n + 1))
    assert float(entropy(maps)) == pytest.approx(sum(log(i) for i in range(1, n + 1)), abs=1e-10)
    assert float(concentration(maps)) == pytest.approx(sqrt(harmonic))
    assert float(sink(maps)) == pytest.approx(harmonic / n) == pytest.approx(float(locality(maps, 0)))


def test_looking_at_one_key_is_concentrated_and_has_no_entropy() -> None:
    eye, first = torch.eye(5), torch.zeros(5, 5)
    first[:, 0] = 1
    for maps in (eye, first):
        assert float(entropy(maps)) == 0 and float(concentration(maps)) == pytest.approx(sqrt(5))
    assert float(sink(first)) == 1 and float(sink(eye)) == pytest.approx(0.2)
    assert [float(locality(eye, distance)) for distance in range(3)] == [1, 0, 0]
    assert float(locality(torch.eye(6).roll(1, 0), 1)) == 1


def test_diversity_is_the_mean_deviation_over_heads() -> None:
    maps = random_maps()
    wanted = sum(maps[0, :, i, j].std() for i in range(6) for j in range(i + 1)) / 21
    assert float(diversity(maps)[0]) == pytest.approx(float(wanted))
    assert float(diversity(maps[:, :1].expand(-1, 3, -1, -1))[0]) == pytest.approx(0, abs=1e-12)


def test_all_at_once_and_any_map() -> None:
    maps = random_maps()
    found = indicators(maps)
    assert found.entropy.shape == found.sink.shape == (2, 3) and found.locality.shape == (2, 3, 4)
    assert found.diversity.shape == (2,) and indicators(maps[..., :2, :2]).locality.shape == (2, 3, 2)
    torch.testing.assert_close(found.locality[..., 2], locality(maps, 2))
    torch.testing.assert_close(indicators(maps[1]).concentration, found.concentration[1])


def test_plots_bring_values_to_one_scale() -> None:
    assert min_max(torch.tensor([2.0, 4.0, 3.0])).tolist() == [0, 1, 0.5]
    assert min_max(torch.tensor([2.0, 2.0])).tolist() == [0, 0]


def test_messages() -> None:
    with pytest.raises(ValueError, match=r"maps of shape \(1, 4, 4\) have one head; diversity compares two or more"):
        diversity(torch.zeros(1, 4, 4))
    for distance in (-1, 4):
        with pytest.raises(ValueError, match=f"distance={distance} must be between 0 and 3, the map being 4 x 4"):
            locality(torch.zeros(4, 4), distance)
