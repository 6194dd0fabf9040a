"""Runs of tokens attended to densely: equal to the masked call, in every form, and chosen where it pays."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from saccade.core.call import AttentionCall, plain_call
from saccade.core.layout import Layout, Segment
from saccade.core.masks import KeyPadding, Table
from saccade.core.regions import Partition
from saccade.mechanisms.region_grid import RegionGrid
from saccade.ops import attend, choose, prepare, spans
from saccade.ops.spans import Run, found_runs, joined
from tests.ops.cases import allowed_error, biases, error, operands, truth


def grid(sizes: list[int], seed: int = 0, keep: float = 0.5) -> RegionGrid:
    """Random verdicts between runs of these sizes; each sees itself."""
    allow = torch.rand(len(sizes), len(sizes), generator=torch.Generator().manual_seed(seed)) < keep
    label = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return RegionGrid(Partition(label, len(sizes)), (allow | torch.eye(len(sizes)).bool())[None, None])


def a_call(mask: RegionGrid, *, extra: int = 0, hidden: int = 0, dtype: torch.dtype = torch.float32) -> AttentionCall:
    n = mask.partition.n
    layout = Layout.plain(n)
    q, k, v = operands(2, 4, 2, n, n + extra, dtype=dtype)
    at = plain_call(q, k, v, mask=mask)
    keys = layout.append(Segment("memory", "extra", extra)) if extra else layout
    if hidden:
        keep = torch.ones(2, n + extra, dtype=torch.bool)
        keep[0, :hidden] = False
        return at.replace(layout_k=keys, mask=mask & KeyPadding(keep))
    return at.replace(layout_k=keys)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("extra", "hidden"), [(0, 0), (9, 0), (0, 3), (9, 3)])
def test_runs_stay_in_the_error_budget(dtype: torch.dtype, extra: int, hidden: int) -> None:
    at = a_call(grid([33, 61, 20, 47]), extra=extra, hidden=hidden, dtype=dtype)
    found, true = attend(at, "spans", want_lse=True), truth(at)
    assert error(found.out, true.out) <= allowed_error(at, true.out)
    assert found.lse is not None and true.lse is not None
    assert error(found.lse, true.lse) <= (1e-4 if dtype == torch.float32 else 3e-2)


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_any_runs_agree_with_the_reference(sizes: list[int], seed: int) -> None:
    at = a_call(grid(sizes, seed), dtype=torch.float64)
    if spans.refuses(at):
        assert grid(sizes, seed).allow.all()  # nothing is masked
        return
    assert error(attend(at, "spans").out, truth(at).out) < 1e-12
    assert sum(run.pairs for run in found_runs(at)) == grid(sizes, seed).bind(at.layout_q, at.layout_k).pairs()
    assert spans.flops(at) == 2 * 2 * 4 * sum(run.pairs for run in found_runs(at)) * 32 and spans.bytes(at) > 0


def test_gradients_are_those_of_the_reference() -> None:
    at, weights, grads = a_call(grid([33, 61, 20]), dtype=torch.float64), torch.randn(2, 4, 114, 16).double(), []
    for kernel in ("spans", "reference"):
        q, k, v = (x.clone().requires_grad_() for x in (at.q, at.k, at.v))
        found = attend(at.replace(q=q, k=k, v=v), kernel, want_lse=True)
        assert found.lse is not None
        grads.append(torch.autograd.grad((found.out * weights).sum() + found.lse.square().sum(), (q, k, v)))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-10)


def test_neighbours_that_see_the_same_are_one_run_and_touching_keys_one_span() -> None:
    allow = torch.tensor([[1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 0, 1]]).bool()
    mask = RegionGrid(Partition(torch.tensor([0, 0, 1, 2, 2, 3]), 4), allow[None, None])
    assert found_runs(a_call(mask)) == (
        Run(queries=(0, 3), keys=((0, 3), (5, 6))), Run(queries=(3, 5), keys=((0, 6),)),
        Run(queries=(5, 6), keys=((5, 6),)),
    )  # fmt: skip
    assert joined([(0, 0), (0, 2), (2, 5), (7, 8)]) == ((0, 5), (7, 8))


def test_long_calls_of_few_runs_take_it_and_others_say_why_not() -> None:
    at = a_call(grid([500, 600, 300]))
    assert choose(at).kernel == "spans" and prepare(at).kernel == "spans"
    assert choose(a_call(grid([50, 60]))).reasons["spans"] == ["110 x 110 tokens; dense is faster below 1024"]
    mixed = RegionGrid(Partition(torch.arange(1100) % 2, 2), torch.eye(2).bool()[None, None])
    assert choose(a_call(mixed)).reasons["spans"] == ["regions lie in more than 32 runs of tokens"]
    by_head = RegionGrid(at.mask.partition, at.mask.allow.repeat(1, 4, 1, 1))  # type: ignore[union-attr]
    assert choose(a_call(by_head)).reasons["spans"] == ["the mask differs by batch row or head"]
    assert choose(at.replace(bias=biases(4, 1400, 1400))).reasons["spans"] == ["a bias is not cut into runs"]
    table = Table(torch.arange(1400) // 700, torch.arange(1400) // 700, torch.eye(2).bool())
    assert choose(at.replace(mask=table)).reasons["spans"] == ["no mask by regions fixed before the call"]
    with pytest.raises(ValueError, match="spans needs a mask by regions whose tokens stand together"):
        spans.run(at.replace(mask=table))


@pytest.mark.compile
def test_inside_a_graph_the_prepared_runs_are_used() -> None:
    at = a_call(grid([500, 600, 300]))
    lowered = at.mask.lowered(at.layout_q, at.layout_k)  # type: ignore[union-attr]
    at = at.replace(mask=lowered)
    assert prepare(at).kernel == "spans"

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(q: Tensor) -> Tensor:
        return attend(at.replace(q=q)).out

    torch.testing.assert_close(compiled(at.q), attend(at).out, atol=1e-5, rtol=1e-5)
