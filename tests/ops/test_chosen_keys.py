"""Attention to chosen groups of keys against one masked softmax in float64: outputs, lse, and every gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from saccade.ops import chosen_keys
from saccade.ops.chosen_keys import attend_chosen


def made(b: int, h: int, hk: int, n: int, m: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = (b, h, n, 6), (b, hk, m, 6), (b, hk, m, 4)
    return [torch.randn(shape, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes]


def token_map(chosen: Tensor, order: Tensor, sizes: tuple[int, ...], m: int, keep: Tensor | None) -> Tensor:
    b, h, _, n = chosen.shape
    allowed = torch.zeros(b, h, n, m, dtype=torch.bool)
    for group, keys in enumerate(order.split(sizes)):
        allowed[..., keys] |= chosen[:, :, group, :, None]
    return allowed if keep is None else allowed & keep[:, None, None]


def plain(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    q, k, v = q.double(), *(x.double().repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = (q @ k.mT * scale).masked_fill(~allowed, -torch.inf)
    lse = scores.logsumexp(-1)
    weights = (scores - lse.masked_fill(lse == -torch.inf, 0)[..., None]).exp()
    return weights @ v, lse


def gradients(out: Tensor, lse: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(9)
    up = torch.randn(out.shape, generator=g, dtype=torch.float64), torch.randn(lse.shape, generator=g).double()
    seen = lse > -torch.inf
    loss = (out.double() * up[0]).sum() + (lse.double()[seen] * up[1][seen]).sum()
    return torch.autograd.grad(loss, inputs)


@settings(max_examples=15)
@given(
    b=st.integers(1, 2), hk=st.integers(1, 2), ratio=st.integers(1, 2), n=st.integers(1, 23),
    sizes=st.lists(st.integers(1, 7), min_size=1, max_size=5), rest=st.integers(0, 3), share=st.floats(0, 1),
    padded=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_equals_one_masked_softmax_with_its_gradients(
    b: int, hk: int, ratio: int, n: int, sizes: list[int], rest: int, share: float, padded: bool, seed: int
) -> None:
    m, g = sum(sizes) + rest, torch.Generator().manual_seed(seed)
    inputs = made(b, hk * ratio, hk, n, m, seed=seed)
    chosen = torch.rand(b, hk * ratio, len(sizes), n, generator=g) < share
    order = torch.randperm(m, generator=g)[: sum(sizes)]
    keep = torch.rand(b, m, generator=g) < 0.7 if padded else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chosen_keys, "BLOCK", 4)
        patch.setattr(chosen_keys, "ROOM", 100)
        found = attend_chosen(*inputs, chosen, order, tuple(sizes), 0.7, keep)
        assert found.lse is not None
        ours = gradients(found.out, found.lse, inputs)
    out, lse = plain(*inputs, token_map(chosen, order, tuple(sizes), m, keep), 0.7)
    torch.testing.assert_close(found.out, out, atol=1e-12, rtol=0)
    torch.testing.assert_close(found.lse, lse, atol=1e-12, rtol=0)
    for a, e in zip(ours, gradients(out, lse, inputs), strict=True):
        torch.testing.assert_close(a, e, atol=1e-11, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_errs_no_more_than_twice_plain_attention(dtype: torch.dtype) -> None:
    inputs = made(1, 2, 2, 300, 64, dtype)
    chosen = torch.rand(1, 2, 4, 300, generator=torch.Generator().manual_seed(0)) < 0.5
    order, sizes = torch.arange(64), (20, 20, 20, 4)
    allowed = token_map(chosen, order, sizes, 64, None)
    out, lse = plain(*inputs, allowed, 0.4)
    scores = (inputs[0] @ inputs[1].mT * 0.4).masked_fill(~allowed, -torch.inf)
    eager = torch.nan_to_num(scores.softmax(-1)) @ inputs[2]
    found = attend_chosen(*inputs, chosen, order, sizes, 0.4)
    assert found.lse is not None and found.out.dtype == torch.float32
    assert (found.out - out).abs().max() <= 2 * (eager - out).abs().max() + 1e-5
    up = gradients(out, lse, inputs), gradients(found.out, found.lse, inputs)
    bound = 1e-5 if dtype == torch.float32 else 0.03
    for exact, ours in zip(*up, strict=True):
        assert ours.dtype == dtype and (ours - exact).abs().max() <= bound * exact.abs().max()


def test_nobody_chosen_is_the_identity_of_merging() -> None:
    q, k, v = made(1, 2, 2, 5, 6)
    found = attend_chosen(q, k, v, torch.zeros(1, 2, 2, 5, dtype=torch.bool), torch.arange(6), (3, 3), 1.0)
    assert found.lse is not None and (found.out == 0).all() and (found.lse == -torch.inf).all()


@pytest.mark.bad_input
def test_groups_that_do_not_fit_are_refused() -> None:
    q, k, v = made(1, 2, 2, 5, 6)
    with pytest.raises(ValueError, match=r"sizes=\(3, 2\) must be one for each of the 2 groups .* sum to the 6 keys"):
        attend_chosen(q, k, v, torch.zeros(1, 2, 2, 5, dtype=torch.bool), torch.arange(6), (3, 2), 1.0)


@pytest.mark.compile
def test_a_graph_holds_it_as_one_operator() -> None:
    inputs = made(1, 2, 2, 9, 8)
    chosen, order = torch.rand(1, 2, 2, 9, generator=torch.Generator().manual_seed(1)) < 0.6, torch.arange(8)

    def run(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        found = attend_chosen(q, k, v, chosen, order, (4, 4), 0.5)
        assert found.lse is not None
        return found.out, found.lse

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    for a, e in zip(gradients(*compiled(*inputs), inputs), gradients(*run(*inputs), inputs), strict=True):
        torch.testing.assert_close(a, e)
