"""Dispatch takes what can and pays, says why not the others, decides once, and works inside a graph."""

import pytest
import torch

from saccade.core.biases import DenseBias
from saccade.core.call import AttentionCall
from saccade.core.errors import RefusedError
from saccade.core.layout import Layout
from saccade.core.masks import Lowered, lower
from saccade.core.places import Disc
from saccade.ops import attend, choose, dispatch, flex, gather, native, prepare
from saccade.ops.split_mask import split_mask
from tests.ops.cases import block_mask, call, error, operands, padding, truth

N = 1280


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever tests before warmed."""
    monkeypatch.setattr(native, "_state", {"warm": False, "reason": native.COLD})


def sparse(keep: float = 0.1, n: int = N, **how: object) -> AttentionCall:
    layout = Layout.plain(n)
    mask = lower(block_mask(n, n, keep=keep, size=128), layout, layout)
    return call(*operands(1, 2, 2, n, n, **how), mask)


def test_without_a_mask_it_is_dense_and_says_why() -> None:
    choice = choose(call(*operands(1, 2, 2, N, N)))
    assert choice.kernel == "sdpa" and choice.density == 1
    assert choice.reasons["gather"] == ["no mask fixed before the call, so no blocks are known to be empty"]


def test_a_sparse_mask_on_a_long_call_is_gathered() -> None:
    at = sparse()
    choice = choose(at)
    assert choice.kernel == "gather"
    assert choice.density == pytest.approx(split_mask(at).fixed.bound.density())


def test_dense_is_taken_where_sparse_would_be_slower() -> None:
    assert choose(sparse(keep=0.9)).reasons["gather"][0].endswith("of the time of dense, which is taken above 90%")
    short = choose(sparse(n=512))
    assert short.kernel == "sdpa"
    assert short.reasons["gather"] == ["512 x 512 tokens; dense is faster below 1024"]


def test_a_kernel_asked_for_by_name_is_taken_though_it_does_not_pay() -> None:
    at = sparse(n=512)
    assert choose(at, kernel="gather").kernel == "gather"
    assert error(attend(at, kernel="gather").out, truth(at).out) < 1e-5


def test_an_unknown_kernel_is_an_error() -> None:
    with pytest.raises(ValueError, match="kernel='cutlass' must be one of"):
        choose(sparse(), kernel="cutlass")


@pytest.mark.bad_input
def test_if_all_refuse_the_call_and_every_reason_are_shown() -> None:
    q, k, v = operands(1, 3, 2, N, N)
    with pytest.raises(RefusedError) as refused:
        choose(call(q, k, v.double(), padding(1, N), DenseBias(torch.zeros(1, 1, N, N))), want_lse=True)
    text = str(refused.value)
    assert "no kernel takes q (1, 3, 1280, 16), k (1, 2, 1280, 16), v (1, 2, 1280, 16), float32, cpu" in text
    assert "mask KeyPadding, bias DenseBias, lse" in text
    assert "gather: a dense bias is not gathered; give it as factors; 3 query heads are no multiple of 2" in text
    assert "sdpa: v is torch.float64 on cpu, q is torch.float32 on cpu; 3 query heads are no multiple of 2" in text
    assert "flex: FlexAttention gives no lse on the CPU" in text
    assert "reference: an oracle in float64; ask for it by name" in text


def test_a_choice_is_made_once_for_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    at = sparse()
    assert at.mask is not None
    padded = [at.replace(mask=at.mask & padding(1, N, hidden)) for hidden in (3, 7)]
    first, second = choose(at), choose(padded[0])
    monkeypatch.setattr(dispatch, "_chosen", None)
    assert choose(at) is first and choose(padded[1]) is second


def test_equal_masks_share_what_was_prepared() -> None:
    layout = Layout.image_only((1, 32, 32))
    calls = [call(*operands(1, 1, 1, 1024, 1024), Disc(3)).replace(layout_q=layout, layout_k=layout) for _ in "ab"]
    assert split_mask(calls[0]).fixed is split_mask(calls[1]).fixed


def test_flex_never_compiles_unasked_on_the_cpu() -> None:
    assert (
        "not warmed for this bucket of shapes; call ops.flex.warm(call) before" in choose(sparse(0.9)).reasons["flex"]
    )


def test_warming_what_flex_cannot_do_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "compiler", lambda *names: "g++")
    with pytest.raises(ValueError, match="flex cannot be warmed for this call: FlexAttention gives no lse on the CPU"):
        flex.warm(sparse(), want_lse=True)
    with flex.compiling_not_allowed(), pytest.raises(ValueError, match="warm kernels before the measured region"):
        flex.warm(sparse())


def test_without_a_compiler_flex_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nonexistent")
    assert "no C++ compiler found (CXX=/nonexistent)" in flex.refuses(sparse())


@pytest.mark.compile
@pytest.mark.parametrize("kernel", ["gather", "sdpa"])
@pytest.mark.parametrize("padded", [False, True], ids=["fixed", "padded"])
def test_compiled_calls_agree_with_eager_ones(kernel: str, padded: bool) -> None:
    torch._dynamo.reset()
    at = sparse(keep=0.1 if kernel == "gather" else 0.9)
    assert isinstance(at.mask, Lowered)
    assert prepare(at, want_lse=True).kernel == kernel
    at = at.replace(mask=padding(1, N) & at.mask) if padded else at
    leaves = [x.detach().requires_grad_() for x in (at.q, at.k, at.v)]
    prepare(at.replace(q=leaves[0]), want_lse=True)

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        found = attend(at.replace(q=q, k=k, v=v), want_lse=True)
        return found.out, found.lse

    outputs = [f(*leaves) for f in (run, torch.compile(run, fullgraph=True, backend="aot_eager"))]
    gradients = [torch.autograd.grad(out.square().sum() + lse.sum(), leaves) for out, lse in outputs]
    for a, b in zip((*outputs[0], *gradients[0]), (*outputs[1], *gradients[1]), strict=True):
        assert error(a, b) <= 1e-6


@pytest.mark.compile
def test_a_mask_unknown_before_the_graph_runs_dense_inside_it() -> None:
    torch._dynamo.reset()
    at = call(*operands(1, 2, 2, 300, 300), block_mask(300, 300, h=2) & block_mask(300, 300, seed=1, keep=0.8))
    run = torch.compile(lambda q: attend(at.replace(q=q)).out, fullgraph=True, backend="eager")
    assert error(run(at.q), truth(at).out) < 1e-5


@pytest.mark.compile
@pytest.mark.inductor
@pytest.mark.slow
def test_flex_is_exact_serves_its_bucket_and_compiles_nothing_there() -> None:
    torch._dynamo.reset()
    with torch.inference_mode():
        q, k, v = operands(1, 2, 2, 1100, 1300)
        at = call(q, k, v, block_mask(1100, 1300, h=2, keep=0.2, size=256))
        flex.warm(at)
        assert error(attend(at, kernel="flex").out, truth(at).out) < 1e-5
        shorter = call(q[:, :, :1050], k[:, :, :1200], v[:, :, :1200], block_mask(1050, 1200, h=2, keep=0.2, size=256))
        with flex.compiling_not_allowed():
            assert flex.refuses(shorter) == []
            assert error(attend(shorter, kernel="flex").out, truth(shorter).out) < 1e-5
        assert gather.found_pattern(shorter).area < 0.9


@pytest.mark.compile
@pytest.mark.inductor
@pytest.mark.slow
def test_flex_takes_padding_given_at_the_call() -> None:
    torch._dynamo.reset()
    with torch.inference_mode():
        mask = lower(block_mask(1100, 1100, keep=0.2, size=256), Layout.plain(1100), Layout.plain(1100))
        assert mask is not None
        at = call(*operands(2, 1, 1, 1100, 1100), mask)
        padded, shut = (at.replace(mask=mask & padding(2, 1100, hidden)) for hidden in (300, 1100))
        flex.warm(padded)
        with flex.compiling_not_allowed():
            assert error(attend(padded, kernel="flex").out, truth(padded).out) < 1e-5
            assert error(attend(shut, kernel="flex").out, truth(shut).out) < 1e-5
