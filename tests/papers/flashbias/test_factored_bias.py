"""A host's dense bias, factored: the same attention, once per bias, and dense with the reason where it must be."""

import pytest
import torch
from torch import Tensor

from saccade.core.biases import Bias, DenseBias, LowRank, PerKey
from saccade.core.call import plain_call
from saccade.core.state import Memory
from saccade.papers.flashbias import factored_bias
from saccade.papers.flashbias.factored_bias import FactoredBias

N, HEADS = 24, 2


def smooth(shift: float = 0.0) -> Tensor:
    at = torch.linspace(-1, 1, N)
    return torch.stack([-((at[:, None] - at) ** 2) * s + shift for s in (1.0, 3.0)])[None]


def sharp() -> Tensor:
    return torch.eye(N).expand(1, HEADS, N, N) * 5


def seen(values: Tensor | Bias, memory: Memory, **options: float) -> Bias | None:
    bias = values if isinstance(values, Bias) else DenseBias(values)
    q, k, v = torch.zeros(3, 1, HEADS, N, 4)
    return FactoredBias(**options).operands(plain_call(q, k, v, bias=bias), memory).bias  # type: ignore[arg-type]


def test_a_smooth_bias_becomes_few_columns() -> None:
    bias = seen(smooth(), Memory(), energy=1.0)
    assert isinstance(bias, LowRank) and bias.rank <= 4
    torch.testing.assert_close(bias.materialize(N, N), smooth(), rtol=0, atol=1e-5)


def test_a_sharp_bias_stays_dense_and_the_reason_is_told_once() -> None:
    memory = Memory()
    with pytest.warns(
        UserWarning, match=r"bias of site 'call' is kept dense: heads \[0, 1\] need more than max_rank=16"
    ):
        bias = seen(sharp(), memory)
    assert isinstance(bias, DenseBias)
    assert isinstance(seen(sharp(), memory), DenseBias)  # and no second warning, which would be an error here


def test_a_bias_is_factored_once_until_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(factored_bias, "svd_factors", lambda *a, **k: made.append(1) or svd(*a, **k))
    memory = Memory()
    first = seen(smooth(), memory)
    assert seen(smooth(), memory) is first and len(made) == 1
    assert seen(smooth(1.0), memory) is not first and len(made) == 2


def test_a_bias_that_changes_in_place_is_factored_again() -> None:
    memory, values = Memory(), smooth()
    seen(values, memory)
    values.add_(1.0)
    bias = seen(values, memory, energy=1.0)
    assert bias is not None
    torch.testing.assert_close(bias.materialize(N, N), smooth(1.0), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:the bias of site")
def test_a_bias_in_training_is_the_one_that_was_passed() -> None:
    memory, table = Memory(), smooth().requires_grad_()
    for _ in range(2):
        bias = seen(table * 1.0, memory)
        assert isinstance(bias, DenseBias)
        bias.values.sum().backward()  # through this call's own graph
    assert table.grad is not None and bool((table.grad == 2).all())


svd = factored_bias.svd_factors


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (smooth().masked_fill(torch.eye(N) > 0, -torch.inf), "it holds inf or nan; pass forbidden pairs as a boolean"),
        (smooth().requires_grad_(), "it requires a gradient"),
    ],
)
def test_what_cannot_be_factored_stays_dense(values: Tensor, reason: str) -> None:
    with pytest.warns(UserWarning, match=reason):
        assert isinstance(seen(values, Memory()), DenseBias)


def test_other_biases_pass_and_sums_are_factored_term_by_term() -> None:
    by_key = PerKey(torch.ones(1, 1, N))
    assert seen(by_key, Memory()) is by_key
    both = seen(by_key + DenseBias(smooth()), Memory(), energy=1.0)
    assert both is not None and not any(isinstance(t, DenseBias) for t in both.terms)  # type: ignore[attr-defined]
    torch.testing.assert_close(both.materialize(N, N), smooth(1.0), rtol=0, atol=1e-5)


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="max_rank=-1 must not be negative"):
        FactoredBias(max_rank=-1)
    with pytest.raises(ValueError, match=r"energy=2 must be in \(0, 1\]"):
        FactoredBias(energy=2)
