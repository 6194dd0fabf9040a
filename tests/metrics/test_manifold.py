"""Precision, recall, density and coverage against loops over every pair, and what they must be by definition."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.metrics import Manifold, manifold
from saccade.metrics.manifold import radii


def drawn(n: int, seed: int, shift: float = 0) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def by_loops(real: torch.Tensor, fake: torch.Tensor, k: int) -> list[float]:
    """The definitions, pair by pair."""

    def reach(vectors: torch.Tensor, i: int) -> float:
        return sorted(float((vectors[i] - other).norm()) for j, other in enumerate(vectors) if j != i)[k - 1]

    balls = {name: [reach(x, i) for i in range(len(x))] for name, x in (("real", real), ("fake", fake))}
    apart = [[float((r - f).norm()) for f in fake] for r in real]
    rows, columns = range(len(real)), range(len(fake))
    in_real = [[apart[i][j] <= balls["real"][i] for j in columns] for i in rows]
    in_fake = [[apart[i][j] <= balls["fake"][j] for j in columns] for i in rows]
    return [
        sum(any(in_real[i][j] for i in rows) for j in columns) / len(fake),
        sum(any(row) for row in in_fake) / len(real),
        sum(map(sum, in_real)) / (k * len(fake)),
        sum(any(row) for row in in_real) / len(real),
    ]


@given(
    seed=st.integers(0, 10000), k=st.integers(1, 4), n=st.integers(5, 20), m=st.integers(5, 20), rows=st.integers(1, 25)
)
def test_the_scores_are_their_definitions(seed: int, k: int, n: int, m: int, rows: int) -> None:
    real, fake = drawn(n, seed), drawn(m, seed + 1, shift=0.7)
    found = manifold(real, fake, k=k, rows=rows)
    wanted = by_loops(real, fake, k)
    assert [found.precision, found.recall, found.density, found.coverage] == pytest.approx(wanted)


@pytest.mark.parametrize("k", [1, 3])
def test_a_set_covers_itself(k: int) -> None:
    x = drawn(50, 0)
    assert manifold(x, x, k=k) == Manifold(precision=1, recall=1, density=(k + 1) / k, coverage=1)


def test_far_sets_share_nothing() -> None:
    assert manifold(drawn(30, 0), drawn(40, 1, shift=100)) == Manifold(precision=0, recall=0, density=0, coverage=0)


def test_one_mode_of_two_is_precise_and_recalls_half() -> None:
    near, far = drawn(100, 0), drawn(100, 1, shift=50)
    found = manifold(torch.cat([near, far]), near + 1e-6)
    assert found.precision == 1 and found.recall == found.coverage == 0.5


def test_an_outlier_raises_precision_more_than_density() -> None:
    real, fake = drawn(100, 0), drawn(100, 1, shift=30)
    outlier = torch.cat([real, fake[:1]])
    found = manifold(outlier, fake)
    assert found.precision > 0.9 and found.density < 0.5


def test_radii_reach_the_kth_neighbour_of_repeated_vectors() -> None:
    x = torch.tensor([[0.0], [0.0], [3.0], [7.0]])
    assert radii(x, k=1).tolist() == [0, 0, 3, 4]


@pytest.mark.parametrize("k", [0, 5])
def test_too_few_neighbours_are_answered(k: int) -> None:
    with pytest.raises(ValueError, match=f"k={k} must be 1 to 4; a vector is not its own neighbour"):
        manifold(drawn(9, 0), drawn(5, 1), k=k)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_precision_is_scored_as_its_values_in_float64(dtype: torch.dtype) -> None:
    real, fake = (drawn(40, seed).to(dtype) for seed in (0, 1))
    assert manifold(real, fake) == manifold(real.double(), fake.double()) == manifold(real.double(), fake)
    assert torch.equal(radii(real), radii(real.double()))
