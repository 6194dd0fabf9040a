"""Chosen groups of keys by the compiled kernel: exact for every instruction set, whatever sizes, and only once warm."""

import pytest
import torch
from torch import Tensor

from saccade import ops
from saccade.ops import chosen_keys, native, native_build, native_chosen
from saccade.ops.chosen_keys import attend_chosen
from saccade.ops.native_rows import move_rows
from tests.ops.test_chosen_keys import gradients, made, plain, token_map
from tests.ops.test_native import cold, each_set, threads, warm

__all__ = ["cold", "each_set", "threads", "warm"]  # fixtures


def case(
    sizes: tuple[int, ...], n: int, *, padded: bool = False, d: int = 6, dv: int = 4, share: float = 0.3
) -> tuple[list[Tensor], Tensor, Tensor, tuple[int, ...], Tensor | None]:
    """(q, k, v), chosen, order, sizes, keep of 2 batch rows, 4 query heads and 2 of keys; none see the last group."""
    g, m = torch.Generator().manual_seed(n), sum(sizes) + 3
    shapes = (2, 4, n, d), (2, 2, m, d), (2, 2, m, dv)
    chosen = torch.rand(2, 4, len(sizes), n, generator=g) < share
    chosen[:, :, -1] = False
    keep = torch.rand(2, m, generator=g) < 0.7 if padded else None
    order = torch.randperm(m, generator=g)[: sum(sizes)]
    return [torch.randn(shape, generator=g) for shape in shapes], chosen, order, sizes, keep


@pytest.mark.parametrize(
    ("sizes", "n", "padded", "d", "dv"),
    [((7, 300, 1, 20), 150, True, 13, 24), ((40, 513, 9), 301, False, 64, 33), ((5, 5), 9, True, 1, 1)],
)
def test_it_is_exact_and_was_taken(
    each_set: str, monkeypatch: pytest.MonkeyPatch, sizes: tuple[int, ...], n: int, padded: bool, d: int, dv: int
) -> None:
    monkeypatch.setattr(chosen_keys, "_work", None)  # the way without the kernel
    (q, k, v), chosen, order, sizes, keep = case(sizes, n, padded=padded, d=d, dv=dv)
    found = attend_chosen(q, k, v, chosen, order, sizes, d**-0.5, keep)
    out, lse = plain(q, k, v, token_map(chosen, order, sizes, k.shape[2], keep), d**-0.5)
    torch.testing.assert_close(found.out.double(), out, atol=3e-6, rtol=0)
    torch.testing.assert_close(found.lse, lse.float(), atol=3e-6, rtol=0)
    assert found.lse is not None and bool((found.lse == -torch.inf).any()) == bool((lse == -torch.inf).any())


def test_it_errs_no_more_than_the_way_without_it_in_bfloat16(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    (q, k, v), chosen, order, sizes, _ = case((40, 60), 200)
    q, k, v = (x.bfloat16() for x in (q, k, v))
    ours = attend_chosen(q, k, v, chosen, order, sizes, 0.4)
    monkeypatch.setattr(native_chosen, "takes", lambda q: False)
    other = attend_chosen(q, k, v, chosen, order, sizes, 0.4)
    true, _ = plain(q, k, v, token_map(chosen, order, sizes, k.shape[2], None), 0.4)
    errors = [(x.out - true.nan_to_num(0)).abs().max() for x in (ours, other)]
    assert ours.out.dtype == torch.float32 and errors[0] <= errors[1]


def test_gradients_take_its_output_and_lse(warm: None) -> None:
    inputs = made(1, 4, 2, 90, 64, torch.float32)
    chosen = torch.rand(1, 4, 2, 90, generator=torch.Generator().manual_seed(0)) < 0.5
    order, sizes = torch.arange(64), (40, 24)
    found = attend_chosen(*inputs, chosen, order, sizes, 0.4)
    assert found.lse is not None
    exact = plain(*inputs, token_map(chosen, order, sizes, 64, None), 0.4)
    for a, e in zip(gradients(found.out, found.lse, inputs), gradients(*exact, inputs), strict=True):
        torch.testing.assert_close(a, e, atol=1e-5, rtol=0)


def test_runs_of_queries_and_threads_change_no_bit(warm: None, threads: None) -> None:
    (q, k, v), chosen, order, sizes, _ = case((40, 300), 5000)
    outs = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        outs.append(attend_chosen(q, k, v, chosen, order, sizes, 0.4))
    assert all(torch.equal(each.out, outs[0].out) for each in outs)
    alone = attend_chosen(q[:, :, 4990:], k, v, chosen[..., 4990:], order, sizes, 0.4)
    assert torch.equal(alone.out, outs[0].out[:, :, 4990:])


def test_nan_stays_with_those_that_see_it(warm: None) -> None:
    (q, k, v), chosen, order, sizes, _ = case((40, 30, 5), 100)
    k[0, 1, order[3]] = torch.nan
    out = attend_chosen(q, k, v, chosen, order, sizes, 0.4).out
    seen = torch.zeros(2, 4, 100, dtype=torch.bool)
    seen[0, 2:] = chosen[0, 2:, 0]
    assert torch.equal(out.isnan().all(-1), seen) and torch.equal(out.isnan().any(-1), seen)


def test_until_it_is_warm_and_in_other_types_it_takes_nothing(cold: None) -> None:
    assert not native_chosen.takes(torch.zeros(1))
    if reason := native_build.obstacle():
        pytest.skip(reason)
    assert ops.warm() is None
    assert native_chosen.takes(torch.zeros(1)) and not native_chosen.takes(torch.zeros(1).double())
    assert not native_chosen.takes(torch.zeros(1, device="meta"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_rows_are_moved_from_wherever_they_lie(warm: None, threads: None, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    whole, order = torch.randn(2, 700, 3, 4, 5, generator=g).to(dtype), torch.randint(0, 700, (1500,), generator=g)
    torch.set_num_threads(2)
    for x in (whole[:, :, 1].transpose(1, 2), whole[:1, :, 2].transpose(1, 2).expand(2, -1, -1, -1), whole[:, :, 0].mT):
        at = order % x.shape[2]
        assert torch.equal(move_rows(native.wide(), x, at), x.index_select(2, at))
