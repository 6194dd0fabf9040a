"""Every kernel computes what the reference computes, forward and backward."""

from types import ModuleType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from saccade.core.biases import DenseBias, LowRank, PerKey
from saccade.core.call import AttentionCall
from saccade.core.errors import RefusedError
from saccade.core.layout import Layout
from saccade.core.masks import Mask, Table, lower
from saccade.core.partial import Partial, merge
from saccade.core.places import Causal, Disc
from saccade.ops import attend, gather, gathered, reference, sdpa
from tests.ops.cases import allowed_error, biases, block_mask, call, error, operands, padding, truth, written_out

FAST = (sdpa, gather)
SHAPES = {"even": (1, 2, 2, 256, 256), "odd": (2, 4, 2, 131, 277), "more queries": (1, 2, 1, 300, 129)}
named = pytest.mark.parametrize("kernel", FAST, ids=lambda k: k.NAME)


@named
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
def test_kernels_stay_in_the_error_budget(kernel: ModuleType, shape: tuple, dtype: torch.dtype, biased: bool) -> None:
    b, h, hk, n, m = shape
    mask = block_mask(n, m, b=b, h=h) & padding(b, m)
    at = call(*operands(*shape, dtype=dtype), mask, biases(h, n, m, dtype) if biased else None)
    found, true = kernel.run(at, want_lse=True), truth(at)
    assert found.out.dtype == dtype and found.out.shape == (b, h, n, 16)
    assert error(found.out, true.out) <= allowed_error(at, true.out)
    assert error(found.lse, true.lse) <= (1e-4 if not biased or dtype == torch.float32 else 3e-2)


@named
@given(
    b=st.integers(1, 2), groups=st.integers(1, 2), hk=st.integers(1, 2), n=st.integers(1, 200), m=st.integers(1, 300),
    d=st.sampled_from([8, 20]), dv=st.sampled_from([8, 12]), by_batch=st.booleans(), by_head=st.booleans(),
    padded=st.booleans(), size=st.integers(3, 90), seed=st.integers(0, 99),
)  # fmt: skip
def test_kernels_agree_for_any_shape_and_mask(
    kernel: ModuleType, b: int, groups: int, hk: int, n: int, m: int, d: int, dv: int, by_batch: bool, by_head: bool,
    padded: bool, size: int, seed: int,
) -> None:  # fmt: skip
    h = hk * groups
    mask: Mask = block_mask(n, m, b=b if by_batch else 1, h=h if by_head else 1, size=size, seed=seed)
    if padded and m > 1:
        mask = mask & padding(b, m, hidden=1)
    at = call(*operands(b, h, hk, n, m, d, dv, torch.float64, seed), mask)
    if kernel.refuses(at, want_lse=True):
        assert lower(mask, at.layout_q, at.layout_k) is None or padded  # nothing is left of the fixed mask
        return
    found, true = kernel.run(at, want_lse=True), truth(at)
    assert error(found.out, true.out) < 1e-12
    assert found.lse is not None and true.lse is not None
    seen = true.lse > -torch.inf
    assert error(found.lse[seen], true.lse[seen]) < 1e-12
    assert bool((found.lse[~seen] == -torch.inf).all())


@pytest.mark.parametrize("size", [1.0, 30.0], ids=["summed", "shifted"])
def test_large_scores_take_the_shifted_form_and_stay_exact(size: float) -> None:
    q, k, v = operands(1, 2, 2, 200, 300, dtype=torch.float64)
    at = call(q * size, k, v, block_mask(200, 300) & padding(1, 300))
    assert gathered._is_safe(at.q, at.k, 0.25) == (size == 1.0)
    found, true = gather.run(at, want_lse=True), truth(at)
    assert error(found.out, true.out) < 1e-12
    assert error(found.lse, true.lse) < 1e-10


def test_long_rows_are_summed_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathered, "PIECE", 128)
    at = call(*operands(1, 1, 1, 128, 700, dtype=torch.float64), block_mask(128, 700, keep=0.7, size=64))
    assert error(gather.run(at).out, truth(at).out) < 1e-12


@named
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_gradients_equal_the_references(kernel: ModuleType, dtype: torch.dtype) -> None:
    b, h, hk, n, m = 2, 4, 2, 131, 277
    mask = block_mask(n, m, b=b, h=h) & padding(b, m)
    bias = biases(h, n, m, dtype)
    low, keys = bias.terms
    leaves = (*operands(b, h, hk, n, m, dtype=dtype), low.phi_q, low.phi_k, keys.values)
    weights = torch.randn(b, h, n, 16), torch.randn(b, h, n)

    def gradients(run: object, tensors: tuple[Tensor, ...], lse_too: bool = True) -> tuple[Tensor, ...]:
        q, k, v, phi_q, phi_k, values = (x.detach().requires_grad_() for x in tensors)
        found = run(call(q, k, v, mask, LowRank(phi_q, phi_k) + PerKey(values)))
        loss = (found.out * weights[0].to(found.out)).sum() + (found.lse * weights[1].to(found.lse)).sum() * lse_too
        return torch.autograd.grad(loss, (q, k, v, phi_q, phi_k, values))

    true = gradients(lambda at: reference.run(at, want_lse=True), tuple(x.double() for x in leaves))
    found = gradients(lambda at: kernel.run(at, want_lse=True), leaves)
    plain = gradients(lambda at: Partial(written_out(at), at.q.new_zeros(1)), leaves, lse_too=False)
    plain_true = gradients(
        lambda at: reference.run(at, want_lse=True), tuple(x.double() for x in leaves), lse_too=False
    )
    for got, want, eager, eager_want in zip(found, true, plain, plain_true, strict=True):
        budget = 1e-12 if dtype == torch.float64 else 2 * error(eager, eager_want) + 1e-2 * want.abs().max().item()
        assert error(got, want) <= budget


def test_a_dense_bias_gets_its_gradient() -> None:
    q, k, v = operands(1, 2, 2, 40, 50, dtype=torch.float64)
    values = torch.randn(1, 2, 40, 50, dtype=torch.float64)
    gradients = []
    for run in (sdpa.run, reference.run):
        leaf = values.clone().requires_grad_()
        found = run(call(q, k, v, block_mask(40, 50, size=9), DenseBias(leaf)), want_lse=True)
        gradients.append(torch.autograd.grad(found.out.square().sum() + found.lse.sum(), leaf)[0])
    assert error(*gradients) < 1e-12


def test_the_wide_rows_of_a_long_masked_call_go_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    at = call(*operands(1, 2, 2, 150, 90, dtype=torch.float64), Causal() | block_mask(150, 90), biases(2, 150, 90))
    whole = sdpa.run(at, want_lse=True)
    monkeypatch.setitem(sdpa.ROWS, "cpu", 1000)
    sliced = sdpa.run(at, want_lse=True)
    assert error(sliced.out, whole.out) < 1e-14 and error(sliced.lse, whole.lse) < 1e-14


@named
def test_partials_of_a_split_merge_to_the_whole(kernel: ModuleType) -> None:
    q, k, v = operands(1, 2, 2, 100, 260, dtype=torch.float64)
    mask = block_mask(100, 130, size=20)
    halves = [
        kernel.run(call(q, k[:, :, s], v[:, :, s], mask), want_lse=True) for s in (slice(0, 130), slice(130, 260))
    ]
    table = Table(mask.label_q, torch.cat((mask.label_k, mask.label_k)), mask.allow)
    assert error(merge(*halves).out, truth(call(q, k, v, table)).out) < 1e-12


def test_a_disc_is_exact_in_a_better_order() -> None:
    layout = Layout.joint(text=13, grid=(1, 32, 64))
    q, k, v = operands(1, 2, 2, layout.n, layout.n, dtype=torch.float64)
    at = call(q, k, v, Disc(8)).replace(layout_q=layout, layout_k=layout)
    assert gather.found_pattern(at).order is not None
    assert error(gather.run(at).out, truth(at).out) < 1e-12


class Shapes(TorchDispatchMode):
    """The most elements any tensor made inside has."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        made = func(*args, **(kwargs or {}))
        for x in made if isinstance(made, tuple | list) else (made,):
            if isinstance(x, Tensor):
                self.most = max(self.most, x.numel())
        return made


def test_nothing_of_size_n_times_m_is_made() -> None:
    n = 2048
    layout = Layout.image_only((1, 32, 64))
    q, k, v = operands(1, 1, 1, n, n)
    low = call(q, k, v, bias=LowRank(torch.randn(1, 1, n, 2), torch.randn(1, 1, n, 2)))
    sparse = call(q, k, v, lower(Disc(4), layout, layout)).replace(layout_q=layout, layout_k=layout)
    gather.ready(sparse)
    for kernel, at in ((sdpa, low), (gather, sparse)):
        with Shapes() as shapes:
            kernel.run(at, want_lse=True)
        assert 0 < shapes.most < n * n / 4


def test_padding_that_hides_every_key_gives_nothing() -> None:
    q, k, v = operands(1, 2, 2, 150, 150, dtype=torch.float64)
    for kernel in (reference, *FAST):
        found = kernel.run(call(q, k, v, block_mask(150, 150) & padding(1, 150, hidden=150)), want_lse=True)
        assert bool((found.out == 0).all()) and bool((found.lse == -torch.inf).all()), kernel.NAME


def test_a_query_without_a_key_is_named() -> None:
    mask = block_mask(100, 100, b=2, h=3, size=10)
    mask.allow[1, 2, 4] = False
    at = call(*operands(2, 3, 3, 100, 100), mask)
    with pytest.raises(
        RefusedError, match="query 40 of batch row 1, head 2 has no key; let every query see at least itself"
    ):
        attend(at)


class Products(TorchDispatchMode):
    """Multiply-adds of the batched products made inside, twice over: FLOPs."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        made = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in ("bmm", "baddbmm_"):
            a, b = args[-2:]
            self.flops += 2 * a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2]
        if name == "_scaled_dot_product_flash_attention_for_cpu":
            q, k, v = args[:3]
            self.flops += 2 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * (q.shape[3] + v.shape[3])
        return made


@pytest.mark.parametrize("kernel", FAST, ids=lambda k: k.NAME)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_flops_are_those_counted(kernel: ModuleType, dtype: torch.dtype) -> None:
    at = call(*operands(2, 4, 2, 256, 384, dtype=dtype), block_mask(256, 384, h=4, size=128))
    kernel.ready(at)
    with Products() as products:
        kernel.run(at)
    assert products.flops == kernel.flops(at)


def test_bytes_count_operands_and_what_is_added_or_copied() -> None:
    at: AttentionCall = call(*operands(1, 2, 2, 256, 384), block_mask(256, 384, size=128, keep=0.3))
    kept = gather.found_pattern(at).kept
    once = 4 * 2 * (256 * 32 + 384 * 32)
    assert sdpa.bytes(at) == once + 4 * 256 * 384
    assert gather.bytes(at) == 4 * 2 * (256 * 32 + 3 * kept * 128 * 32)
    assert reference.bytes(at) == 2 * once + 4 * 8 * 2 * 256 * 384
