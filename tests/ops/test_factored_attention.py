"""Attention with factors is attention with the dense bias: values, gradients, shapes, memory, and what is refused."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from saccade.core.biases import LowRank
from saccade.core.places import Causal
from saccade.ops import exact_factors as exact
from saccade.ops.factored_attention import attention_with_factors, cosine_operands, multiplied_operands
from saccade.ops.rounding import split
from saccade.ops.svd_factors import svd_factors

TIGHT = 1e-12
B, H, N, M, D = 2, 4, 33, 21, 8


def operands(n: int = N, m: int = M, d: int = D, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((B, H, n, d), (B, H, m, d), (B, H, m, d + 3))
    return [torch.randn(s, dtype=torch.float64, generator=generator).to(dtype).requires_grad_() for s in shapes]


def plain(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float | None = None) -> Tensor:
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale) + bias
    return scores.softmax(-1) @ v


def order(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64)


def places(n: int, seed: int) -> Tensor:
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def alibi(n: int, m: int, form: str = "both") -> LowRank:
    return exact.linear_factors(exact.alibi_slopes(H), order(n), order(m), form)  # type: ignore[arg-type]


CASES = {
    "alibi": alibi,
    "alibi_by_key": lambda n, m: alibi(n, m, "keys"),
    "distance": lambda n, m: exact.distance_factors(places(n, 1), places(m, 2)),
    "distance_each_axis": lambda n, m: exact.distance_factors(places(n, 1), places(m, 2), form="each_axis"),
    "distance_by_key": lambda n, m: exact.distance_factors(places(n, 1), places(m, 2), form="keys"),
    "polynomial": lambda n, m: exact.polynomial_factors(places(3, 3) / 99, order(n), order(m)),
    "cosine": lambda n, m: exact.cosine_factors(0.3, order(n), order(m)),
    "blocks": lambda n, m: exact.block_factors(places(3, 4), torch.arange(n) % 3, torch.arange(m) % 3),
    "sum": lambda n, m: alibi(n, m).concatenated(exact.cosine_factors(0.3, order(n), order(m))),
    "product": lambda n, m: exact.product(alibi(n, m), exact.cosine_factors(0.3, order(n), order(m))),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n", "m"), [(33, 33), (21, 33), (5, 7), (1, 9)])
def test_equals_the_dense_bias_forward_and_backward(name: str, causal: bool, n: int, m: int) -> None:
    factors = CASES[name](n, m)
    given, truth = operands(n, m), operands(n, m)
    phi = [p.clone().requires_grad_() for p in (factors.phi_q, factors.phi_k)]
    phi_truth = [p.clone().requires_grad_() for p in phi]
    out = attention_with_factors(*given, LowRank(*phi), causal=causal)
    hidden = torch.ones(n, m).tril(m - n) == 0 if causal else torch.zeros(n, m, dtype=torch.bool)
    want = plain(*truth, (phi_truth[0] @ phi_truth[1].mT).masked_fill(hidden, -torch.inf))
    torch.testing.assert_close(out, want, rtol=0, atol=TIGHT)
    for result, inputs in ((out, [*given, *phi]), (want, [*truth, *phi_truth])):
        result.backward(torch.linspace(-1, 1, result.numel(), dtype=torch.float64).reshape(result.shape), inputs=inputs)
    for mine, other in zip([*given, *phi], [*truth, *phi_truth], strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape_q", [(1, 1), (1, H), (B, 1), (B, H)])
@pytest.mark.parametrize("shape_k", [(1, 1), (1, H), (B, 1), (B, H)])
def test_factors_broadcast_over_batch_and_heads(shape_q: tuple[int, int], shape_k: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    phi_q = torch.randn(*shape_q, N, 3, dtype=torch.float64, generator=generator)
    phi_k = torch.randn(*shape_k, M, 3, dtype=torch.float64, generator=generator)
    q, k, v = operands()
    want = plain(q, k, v, phi_q @ phi_k.mT)
    torch.testing.assert_close(attention_with_factors(q, k, v, LowRank(phi_q, phi_k)), want, rtol=0, atol=TIGHT)


@given(rank=st.integers(1, 20), d=st.integers(1, 20))
def test_zero_columns_that_align_the_width_change_nothing(rank: int, d: int) -> None:
    generator = torch.Generator().manual_seed(rank)
    phi_q, phi_k = (torch.randn(1, H, n, rank, dtype=torch.float64, generator=generator) for n in (N, M))
    q, k, v = operands(d=d)
    padded = [torch.nn.functional.pad(phi, (0, 5)) for phi in (phi_q, phi_k)]
    out = attention_with_factors(q, k, v, LowRank(phi_q, phi_k))
    torch.testing.assert_close(out, plain(q, k, v, phi_q @ phi_k.mT), rtol=0, atol=TIGHT)
    torch.testing.assert_close(out, attention_with_factors(q, k, v, LowRank(*padded)), rtol=0, atol=TIGHT)


def test_rank_zero_is_plain_attention() -> None:
    q, k, v = operands()
    empty = LowRank(q.new_zeros(1, 1, N, 0), q.new_zeros(1, 1, M, 0))
    torch.testing.assert_close(
        attention_with_factors(q, k, v, empty), plain(q, k, v, q.new_zeros(())), rtol=0, atol=TIGHT
    )


@given(st.integers(0, 99))
def test_a_row_constant_changes_nothing(seed: int) -> None:
    q, k, v = operands(seed=seed)
    u = torch.randn(1, H, N, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 5
    constant = LowRank(u, torch.ones(1, 1, M, 1, dtype=torch.float64))
    bias = alibi(N, M)
    with_constant = attention_with_factors(q, k, v, bias.concatenated(constant))
    torch.testing.assert_close(with_constant, attention_with_factors(q, k, v, bias), rtol=0, atol=1e-11)


@given(energy=st.floats(0.2, 0.999), seed=st.integers(0, 50))
def test_the_output_error_of_an_approximation_is_bounded(energy: float, seed: int) -> None:
    b = torch.randn(H, N, M, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    q, k, v = (x.detach() for x in operands(seed=seed))
    factors = svd_factors(b, energy=energy)
    lost = (b - b.mean(-1, keepdim=True) - factors.phi_q @ factors.phi_k.mT).abs().amax()
    gap = (attention_with_factors(q, k, v, factors) - plain(q, k, v, b)).abs().max()
    assert gap <= lost * v.abs().max() + TIGHT


@pytest.mark.parametrize("scale", [0.0, 1.0, 0.37, None])
def test_the_scale_is_applied_once(scale: float | None) -> None:
    q, k, v = operands()
    bias = alibi(N, M)
    want = plain(q, k, v, bias.phi_q @ bias.phi_k.mT, scale)
    torch.testing.assert_close(attention_with_factors(q, k, v, bias, scale=scale), want, rtol=0, atol=TIGHT)


@pytest.mark.parametrize("shape", [(N, M), (1, 1, 1, M), (B, 1, N, M), (B, H, N, M), (B, 1, 1, M)])
@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_stays_beside_the_factors(shape: tuple[int, ...], additive: bool, causal: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(shape, generator=generator) < 0.7
    mask[..., 0] = True  # every query keeps a key
    q, k, v = operands()
    bias = alibi(N, M)
    seen = mask & (torch.ones(N, M).tril(M - N) == 1) if causal else mask
    if causal:
        q, k, v, seen = q[:, :, -M:], k, v, seen.expand(*seen.shape[:-2], N, M)[..., -M:, :]
        bias = LowRank(bias.phi_q[:, :, -M:], bias.phi_k)
        mask = mask.expand(*mask.shape[:-2], N, M)[..., -M:, :] if shape[-2] == N else mask
    want = plain(q, k, v, (bias.phi_q @ bias.phi_k.mT).masked_fill(~seen, -torch.inf))
    given = torch.zeros_like(mask, dtype=torch.float64).masked_fill(~mask, -torch.inf) if additive else mask
    torch.testing.assert_close(
        attention_with_factors(q, k, v, bias, mask=given, causal=causal), want, rtol=0, atol=TIGHT
    )


def test_a_mask_value_of_the_algebra_works_too() -> None:
    q, k, v = operands(M, M)
    flag = attention_with_factors(q, k, v, alibi(M, M), causal=True)
    torch.testing.assert_close(attention_with_factors(q, k, v, alibi(M, M), mask=Causal()), flag, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["cosine", "blocks"])
def test_a_multiplied_bias_is_a_wider_product(name: str) -> None:
    q, k, v = operands()
    bias = CASES[name](N, M)
    wide_q, wide_k = multiplied_operands(q, k, bias)
    torch.testing.assert_close(wide_q @ wide_k.mT, (q @ k.mT) * (bias.phi_q @ bias.phi_k.mT), rtol=0, atol=TIGHT)
    assert wide_q.shape[-1] == D * bias.rank


def test_cosine_attention_takes_a_bias_with_scale_one() -> None:
    q, k, v = operands()
    logit_scale = torch.linspace(0, 6, H, dtype=torch.float64)[:, None, None]
    bias = alibi(N, M)
    cos = torch.nn.functional.cosine_similarity(q[:, :, :, None], k[:, :, None], dim=-1)
    scores = cos * logit_scale.exp().clamp(max=100) + bias.phi_q @ bias.phi_k.mT
    out = attention_with_factors(*cosine_operands(q, k, logit_scale), v, bias, scale=1.0)
    torch.testing.assert_close(out, scores.softmax(-1) @ v, rtol=0, atol=1e-11)


class Largest(TorchDispatchMode):
    """The largest tensor any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN204
        out = func(*args, **(kwargs or {}))
        tensors = [t for t in torch.utils._pytree.tree_leaves(out) if isinstance(t, Tensor)]
        self.numel = max([self.numel, *(t.untyped_storage().nbytes() // t.element_size() for t in tensors)])
        return out


@pytest.mark.parametrize("causal", [False, True])
def test_no_tensor_of_n_by_m_is_made(causal: bool) -> None:
    n, d = 2048, 16  # long enough that blocks pay
    q, k, v = (torch.randn(1, 1, n, d, requires_grad=True) for _ in range(3))
    with Largest() as largest:
        bias = exact.linear_factors(exact.alibi_slopes(1), order(n), order(n))
        phi = [p.float().requires_grad_() for p in (bias.phi_q, bias.phi_k)]
        attention_with_factors(q, k, v, LowRank(*phi), causal=causal).sum().backward()
    assert largest.numel < n * n / 2  # a causal mask is looked at in pieces of a fixed size; else operands of n (d + 8)
    assert causal or largest.numel <= n * (d + 8)
    with Largest() as dense:
        plain(q.detach(), k.detach(), v.detach(), torch.zeros(1))
    assert dense.numel == n * n


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_positions_beyond_the_exact_range_of_half_precision_warn(dtype: torch.dtype) -> None:
    n = 2400
    q, k, v = (x.detach()[:1, :1, :, :8] for x in operands(n, n, dtype=dtype))
    bias = exact.linear_factors(torch.tensor([0.5]), order(n), order(n))
    with pytest.warns(UserWarning, match=r"rounded to torch\.\w+, the bias is off by up to .*split"):
        rough = attention_with_factors(q, k, v, bias)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine = attention_with_factors(q, k, v, split(bias, dtype))
    truth = plain(q.double(), k.double(), v.double(), bias.phi_q @ bias.phi_k.mT)
    assert (fine - truth).abs().max() < 0.05 < (rough - truth).abs().max()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda q, k, b: (LowRank(b.phi_q[:, :, 1:], b.phi_k), {}),
            "phi_q has 32 rows for 33 tokens; it needs one per",
        ),
        (lambda q, k, b: (LowRank(b.phi_q, b.phi_k[:, :, 1:]), {}), "phi_k has 20 rows for 21 tokens"),
        (
            lambda q, k, b: (LowRank(b.phi_q[:, :3], b.phi_k), {}),
            r"phi_q \(1, 3, 33, 2\) does not broadcast to \(2, 4\)",
        ),
        (lambda q, k, b: (LowRank(b.phi_q, b.phi_k[..., 1:]), {}), "phi_q has 2 columns and phi_k 1"),
        (
            lambda q, k, b: (b, {"mask": torch.zeros(N, M, requires_grad=True)}),
            "mask requires grad, but no gradient flows",
        ),
        (
            lambda q, k, b: (b, {"mask": torch.ones(N, M - 1) > 0}),
            r"mask \(1, 1, 33, 20\) does not broadcast to 33 x 21",
        ),
    ],
)
def test_bad_input_is_named(change, message: str) -> None:  # noqa: ANN001
    q, k, v = operands()
    with pytest.raises(ValueError, match=message):
        factors, options = change(q, k, alibi(N, M))
        attention_with_factors(q, k, v, factors, **options)
