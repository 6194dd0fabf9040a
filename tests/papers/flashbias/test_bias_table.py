"""Learned tables: factored where the rank allows, dense with the reason where not."""

import pytest
import torch
from torch import Tensor

from saccade.core.biases import DenseBias, LowRank
from saccade.core.layout import Layout
from saccade.papers.flashbias.bias_table import BiasTable, by_offset
from saccade.papers.flashbias.place_priors import SpatialDistance
from saccade.papers.flashbias.prior_bias import PriorBias

JOINT = Layout.joint(text=3, grid=(1, 4, 5))
CPU = torch.device("cpu")


def low_rank(heads: int = 2, n: int = 20, rank: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(heads, n, rank, dtype=torch.float64, generator=generator) for _ in range(2))
    return a @ b.mT + 5


def full_rank(n: int = 20) -> Tensor:
    return torch.randn(2, n, n, generator=torch.Generator().manual_seed(0))


def bound(table: BiasTable, layout: Layout = JOINT) -> DenseBias | LowRank:
    bias = PriorBias(prior=table).bind(layout, layout, 2, CPU)
    assert isinstance(bias, DenseBias | LowRank)
    return bias


def test_a_low_rank_table_becomes_factors_that_reproduce_it_between_image_tokens() -> None:
    values = low_rank()
    bias = bound(BiasTable(values=values, energy=1.0))
    assert isinstance(bias, LowRank)
    laid = bias.materialize(23, 23)[0]
    torch.testing.assert_close(laid[:, 3:, 3:], values.float(), rtol=1e-4, atol=1e-4)
    assert laid[:, :3].eq(0).all() and laid[:, :, :3].eq(0).all()


def test_a_table_of_high_rank_stays_dense_and_says_why() -> None:
    with pytest.warns(UserWarning, match=r"kept dense: heads \[0, 1\] need more than max_rank=4 .*would keep 0\.\d+"):
        bias = bound(BiasTable(values=full_rank(), max_rank=4))
    assert isinstance(bias, DenseBias)
    torch.testing.assert_close(bias.values[0, :, 3:, 3:], full_rank())
    assert bias.values[..., :3, :].eq(0).all()


def test_a_table_of_high_rank_may_be_cut_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="max_rank=4 keeps less than energy=0.995"):
        bias = bound(BiasTable(values=full_rank(), max_rank=4, beyond="cut"))
    assert isinstance(bias, LowRank)


def test_factors_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = BiasTable(values=low_rank())
    first = table.factors
    monkeypatch.setattr("saccade.papers.flashbias.bias_table.svd_factors", None)
    assert table.factors is first


def test_dropped_row_means_are_refused_beside_text_and_fine_alone() -> None:
    table = BiasTable(values=low_rank(), energy=1.0, means="drop")
    with pytest.raises(ValueError, match="exact only up to a constant per query"):
        bound(table)
    alone = bound(table, Layout.image_only((1, 4, 5))).materialize(20, 20)[0].double()
    torch.testing.assert_close(alone.softmax(-1), low_rank().softmax(-1), rtol=1e-4, atol=1e-5)


def test_a_table_by_offset_is_constant_along_offsets() -> None:
    values = torch.arange(2 * 3 * 5.0).reshape(2, 3, 5)
    table = by_offset(values, (2, 3))
    places = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    for i, j in ((0, 5), (4, 1), (3, 3)):
        dy, dx = (places[i] - places[j]).tolist()
        assert torch.equal(table[:, i, j], values[:, dy + 1, dx + 2])
    made = BiasTable.relative(values, (2, 3), max_rank=None)
    assert torch.equal(made.values, table) and made.max_rank is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BiasTable(values=torch.full((4, 4), torch.nan)), "16 entries that are nan or inf"),
        (lambda: BiasTable(values=torch.eye(4), energy=0), r"energy=0 must be in \(0, 1\]"),
        (lambda: BiasTable(values=torch.eye(4), beyond="drop"), "beyond='drop' must be 'dense' or 'cut'"),
        (lambda: bound(BiasTable(values=torch.eye(4))), r"values \(4, 4\) do not fit 20 x 20 chosen tokens"),
        (lambda: by_offset(torch.zeros(2, 3, 3), (2, 3)), r"must be \(heads, 3, 5\) for grid=\(2, 3\)"),
    ],
)
def test_bad_tables_are_named(make, message: str) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.filterwarnings("ignore:the table is kept dense")
def test_a_dense_table_cannot_be_multiplied() -> None:
    with pytest.raises(ValueError, match="a dense bias cannot be multiplied by factors; raise max_rank"):
        bound(BiasTable(values=full_rank(), max_rank=4) * SpatialDistance())
