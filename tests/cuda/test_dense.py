"""Dense calls on CUDA go to the kernel that can do what is asked, in operands it takes as they are."""

import pytest
import torch

from saccade.core.biases import LowRank, PerKey
from saccade.core.call import plain_call
from saccade.core.masks import KeyPadding
from saccade.ops import attend, sdpa, sdpa_cuda
from saccade.ops.dispatch import cast
from tests.cuda.pretended_device import Cards
from tests.ops.cases import block_mask, error, operands, padding

N, M = 40, 70
BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64


@pytest.mark.parametrize(
    ("asked", "kernel"),
    [
        ({}, "cudnn"),
        ({"capability": 10, "w": 72}, "cudnn"),
        ({"capability": 8}, "flash"),
        ({"capability": 12}, "flash"),
        ({"w": 136, "dv": 136}, "flash"),
        ({"keys": 1}, "flash"),
        ({"capability": 8, "w": 72}, "efficient"),
        ({"w": 264, "dv": 264}, "efficient"),
        ({"masked": True}, "efficient"),
        ({"trains": True}, "efficient"),
        ({"dtype": F32}, "efficient"),
        ({"dtype": F16, "capability": 7}, "efficient"),
        ({"dtype": BF16, "capability": 7}, "math"),
        ({"dtype": F64}, "math"),
    ],
    ids=str,
)
def test_lse_comes_from_the_first_kernel_that_hands_it_out(asked: dict, kernel: str) -> None:
    usual = {"dtype": BF16, "w": 64, "dv": 64, "keys": 100, "masked": False, "trains": False, "capability": 9}
    given = usual | asked
    positional = [given.pop(name) for name in ("dtype", "w", "dv", "keys")]
    assert sdpa_cuda.kernel_with_lse(*positional, **given) == kernel


def test_a_kernel_that_is_switched_off_is_not_taken() -> None:
    def kernel() -> str:
        return sdpa_cuda.kernel_with_lse(F16, 64, 64, 100, masked=False, trains=False, capability=9)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION):
        assert kernel() == "efficient"
    assert kernel() == "cudnn"


@pytest.mark.compile
def test_the_choice_can_stand_inside_a_graph() -> None:
    def halved(x: torch.Tensor) -> torch.Tensor:
        kernel = sdpa_cuda.kernel_with_lse(F16, 64, 64, 100, masked=False, trains=False, capability=9)
        return x / 2 if kernel == "cudnn" else x

    assert torch.compile(halved, backend="eager", fullgraph=True)(torch.ones(1)).item() == 0.5


CASES = {
    "half": ((1, 4, 4, 64, 64, BF16), (), ["flash"], ["cudnn"]),
    "width not in eights": ((1, 4, 4, 70, 70, BF16), (), ["flash"], ["cudnn"]),
    "narrow values": ((1, 4, 4, 72, 64, F16), (), ["efficient"], ["cudnn"]),
    "grouped heads": ((2, 4, 2, 64, 64, BF16), (), ["flash"], ["cudnn"]),
    "grouped heads, mask": ((2, 4, 2, 64, 64, BF16), ("mask",), ["efficient"], ["efficient"]),
    "mask and padding": ((1, 2, 2, 64, 64, F16), ("mask", "padding"), ["efficient"], ["efficient"]),
    "factors": ((1, 2, 2, 64, 64, BF16), ("factors",), ["efficient"], ["cudnn"]),
    "one value a key": ((1, 2, 2, 62, 64, F32), ("per key",), ["efficient"], ["efficient"]),
    "float32": ((1, 2, 2, 20, 12, F32), (), ["efficient"], ["efficient"]),
    "float64": ((1, 2, 2, 64, 64, F64), (), [], []),
}


@pytest.mark.parametrize("name", CASES)
def test_numbers_kernels_and_waits_of_a_dense_call(cards: Cards, name: str) -> None:
    (b, h, hk, d, dv, dtype), added, plain, with_lse = CASES[name]
    tensors = operands(b, h, hk, N, M, d, dv, dtype)
    phi = torch.randn(1, h, N, 3, dtype=dtype), torch.randn(1, 1, M, 3, dtype=dtype)
    values = torch.randn(1, 1, M, dtype=dtype)
    mask = block_mask(N, M, size=10) if "mask" in added else None

    def at(put: object) -> object:
        bias = LowRank(*map(put, phi)) if "factors" in added else PerKey(put(values)) if "per key" in added else None
        padded = KeyPadding(put(padding(b, M).keep)) if "padding" in added else None
        whole = mask if padded is None or mask is None else mask & padded
        return plain_call(*map(put, tensors), mask=whole, bias=bias)

    true = attend(at(lambda x: x), kernel="reference", want_lse=True)
    on_card = at(cards.put)
    for want_lse, kernels in ((False, plain), (True, with_lse)):
        attend(on_card, kernel="sdpa", want_lse=want_lse)
        cards.reset()
        found = attend(on_card, kernel="sdpa", want_lse=want_lse)
        assert cards.kernels == kernels and cards.waits == []
        tolerance = {BF16: 4e-2, F16: 1e-2}.get(dtype, 1e-5)  # numbers from 4 to 8 are 2^-5 apart in bfloat16
        assert error(found.out.held, true.out) < tolerance
        assert found.out.shape == true.out.shape and found.out.dtype == dtype
        assert found.lse is None or error(found.lse.held, true.lse) < tolerance


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dv", [16, 8])
def test_lse_and_output_pass_their_gradients_on(cards: Cards, masked: bool, dv: int) -> None:
    """The operators by themselves: autograd asks for an accelerator, which a pretended card is not."""
    q, k, v = (x.contiguous() for x in operands(1, 2, 2, N, M, 16, dv, F32))
    mask = torch.where(torch.rand(1, 1, N, M) < 0.7, 0.0, -torch.inf) if masked else None
    d_out, d_lse = torch.randn(1, 2, N, dv), torch.randn(1, 2, N)
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    scores = leaves[0] @ leaves[1].mT * 0.3 + (0 if mask is None else mask.double())
    out, lse = scores.softmax(-1) @ leaves[2], scores.logsumexp(-1)
    true = torch.autograd.grad((out * d_out).sum() + (lse * d_lse).sum(), leaves)

    q, k, v, d_out, d_lse = (cards.put(x) for x in (q, k, v, d_out, d_lse))
    mask = None if mask is None else cards.put(mask)
    found_out, found_lse = sdpa._fused(q, k, v, mask, 0.3)
    gradients = sdpa._backward(d_out, d_lse, q, k, v, mask, found_out, found_lse, 0.3)
    assert error(found_out.held, out.detach()) < 1e-5 and error(found_lse.held, lse.detach()) < 1e-5
    assert all(error(a.held, b) < 1e-4 for a, b in zip(gradients, true, strict=True))
    assert set(cards.kernels) == {"efficient", "efficient_attention_backward"} and cards.waits == []


def test_a_prepared_mask_lies_where_rows_begin_aligned(cards: Cards) -> None:
    q, k, v = (cards.put(x) for x in operands(1, 2, 2, N, M, dtype=BF16))
    at = plain_call(q, k, v, mask=block_mask(N, M, size=10))
    added = sdpa._mask(at, None)
    assert added.shape == (1, 1, N, M) and added.stride(2) == 80


def test_autocast_casts_as_torch_does() -> None:
    q, k, v = operands(1, 2, 2, N, N)
    mixed = plain_call(q, k, v.bfloat16())
    with torch.autocast("cpu", dtype=BF16):
        found = attend(mixed).out
        true = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        assert cast(plain_call(*(x.double() for x in (q, k, v)))).q.dtype == F64
    assert found.dtype == BF16 and error(found, true) < 1e-2
    assert cast(mixed) is mixed


def test_a_bias_on_another_device_is_named(cards: Cards) -> None:
    q, k, v = (cards.put(x) for x in operands(1, 2, 2, N, M, dtype=BF16))
    bias = LowRank(torch.zeros(1, 1, N, 2), torch.zeros(1, 1, M, 2))
    with pytest.raises(ValueError, match="phi_q of the bias is on cpu, q on cuda:0; move the bias"):
        attend(plain_call(q, k, v, bias=bias))
