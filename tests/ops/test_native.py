"""The compiled CPU kernel is exact in its types for every instruction set this machine has, and refuses the rest."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from saccade import ops
from saccade.core.call import AttentionCall
from saccade.core.layout import Layout
from saccade.core.masks import lower
from saccade.ops import attend, choose, gather, native, native_build, prepare
from saccade.ops.gather_schedule import GatherSchedule
from saccade.ops.native_job import Tiles
from saccade.ops.operands import operands as fold
from tests.ops.cases import allowed_error, biases, block_mask, call, error, operands, padding, truth

N = 1280


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that never warmed the kernel."""
    monkeypatch.setattr(native, "_state", {"warm": False, "reason": native.COLD})


@pytest.fixture
def warm(cold: None) -> None:
    """Warmed as the environment says; skipped where something known stands in its way, red where anything else does."""
    if reason := native_build.obstacle():
        pytest.skip(reason)
    assert ops.warm() is None


@pytest.fixture(params=native_build.SETS)
def each_set(cold: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Warmed for each instruction set that this machine has, bfloat16 widened."""
    monkeypatch.setenv("SACCADE_NATIVE", request.param)
    if reason := native_build.obstacle():
        pytest.skip(reason)
    assert ops.warm() is None
    native._state["products"] = False
    return request.param


@pytest.fixture
def products(warm: None) -> None:
    """Torch's own products of bfloat16, also where they are the slower ones; skipped where torch has none."""
    native._state["products"] = native._state["instructions"] == "avx512" and native._multiplies()
    if not native._state["products"]:
        pytest.skip("torch's own products need AVX-512")


@pytest.fixture
def threads() -> Iterator[None]:
    """Whatever number of threads a test sets, it is set back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def sparse() -> AttentionCall:
    """A call that block-sparse kernels win."""
    layout = Layout.plain(N)
    return call(*operands(1, 2, 2, N, N), lower(block_mask(N, N, keep=0.1, size=128), layout, layout))


def assert_in_the_error_budget(dtype: torch.dtype) -> None:
    for (b, h, hk, n, m), biased, d in (
        ((1, 2, 2, 256, 256), False, 13), ((2, 4, 2, 131, 277), True, 40), ((1, 2, 1, 300, 129), True, 13),
    ):  # fmt: skip
        mask = block_mask(n, m, b=b, h=h) & padding(b, m)
        at = call(*operands(b, h, hk, n, m, d=d, dv=24, dtype=dtype), mask, biases(h, n, m, dtype) if biased else None)
        found, true = native.run(at, want_lse=True), truth(at)
        assert found.out.dtype == dtype
        assert error(found.out, true.out) <= allowed_error(at, true.out)
        assert error(found.lse, true.lse) <= (1e-5 if dtype == torch.float32 else 3e-2)


@pytest.mark.parametrize("dtype", native.TYPES, ids=str)
def test_it_stays_in_the_error_budget(each_set: str, dtype: torch.dtype) -> None:
    assert_in_the_error_budget(dtype)


def test_torchs_own_products_stay_in_the_error_budget(products: None) -> None:
    assert_in_the_error_budget(torch.bfloat16)


@pytest.mark.parametrize(
    ("size", "d", "dv"),
    [
        ((128, 128), 64, 64), ((64, 64), 40, 72), ((32, 32), 128, 80), ((128, 64), 96, 128), ((40, 24), 80, 33),
        ((33, 7), 19, 5), ((7, 33), 1, 1),
    ],
)  # fmt: skip
def test_blocks_of_every_size_and_width_are_exact(each_set: str, size: tuple[int, int], d: int, dv: int) -> None:
    """Two query blocks, the first with a mixed block of keys, the second with an open and a mixed one; some padded."""
    s, c = size
    g = torch.Generator().manual_seed(d)
    q, k, v = (torch.randn(shape, generator=g) for shape in ((2, s, d), (3, c, d), (3, c, dv)))
    tiles = torch.rand(3, s, c, generator=g) < 0.5
    tiles[0], tiles[2, s // 2] = True, False
    keep = torch.rand(3, c, generator=g) < 0.8
    plan = GatherSchedule(
        rows=torch.tensor([1, 0]), cols=torch.tensor([2, 0, 1]), which=torch.tensor([0, 1, 2]),
        batches=torch.tensor([[1, 2, 1], [1, 1, 0]]),
    )  # fmt: skip
    out, lse = native.attend_to(q, k, v, keep, Tiles.of(tiles), plan, d**-0.5)
    for row, cols, which in ((1, [2, 0], [0, 1]), (0, [1], [2])):
        open_ = torch.cat([tiles[t] & keep[b] for b, t in zip(cols, which, strict=True)], -1)
        scores = (d**-0.5 * q[row].double() @ k[cols].flatten(0, 1).double().mT).masked_fill(~open_, -torch.inf)
        true = torch.softmax(scores, -1).nan_to_num(0) @ v[cols].flatten(0, 1).double()
        assert error(out[row], true) < 3e-6
        assert torch.allclose(lse[row].double(), scores.logsumexp(-1), rtol=0, atol=3e-6)


def test_large_scores_and_hidden_rows_are_exact(each_set: str) -> None:
    q, k, v = operands(1, 2, 2, 200, 300)
    large = call(q * 40, k, v, block_mask(200, 300))
    assert error(native.run(large).out, truth(large).out) < 1e-4
    hidden = native.run(call(q, k, v, block_mask(200, 300) & padding(1, 300, hidden=300)), want_lse=True)
    assert bool((hidden.out == 0).all()) and bool((hidden.lse == -torch.inf).all())


@pytest.mark.parametrize("dtype", native.TYPES, ids=str)
def test_the_number_of_threads_changes_no_bit(warm: None, threads: None, dtype: torch.dtype) -> None:
    at = call(*operands(2, 4, 2, 300, 300, d=64, dtype=dtype), block_mask(300, 300, b=2, h=4))
    outs = []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        outs.append(native.run(at, want_lse=True))
    assert all(torch.equal(each.out, outs[0].out) and torch.equal(each.lse, outs[0].lse) for each in outs)


def test_without_torchs_pool_it_has_threads_of_its_own(
    warm: None, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = call(*operands(2, 4, 2, 300, 300), block_mask(300, 300, b=2, h=4))
    torch.set_num_threads(2)
    pooled = native.run(at).out
    monkeypatch.setattr("saccade.ops.native_job.parallel", lambda: None)
    assert torch.equal(native.run(at).out, pooled)


def test_rows_that_read_nothing_give_nothing_in_poisoned_memory(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *size: empty(x, *size).fill_(torch.nan))
    at = call(*operands(1, 2, 2, 256, 256), block_mask(256, 256, h=2, size=128, keep=0))
    folded = fold(at)
    found, plan, blocks, _ = gather.laid_out(at, folded)
    assert found.tiles is not None
    tiles, number = Tiles.of(found.tiles), len(blocks[0])
    for rows in (plan.rows, plan.rows[:-1]):
        out, lse = native.attend_to(*blocks, None, tiles, replace(plan, rows=rows), folded.scale)
        read = torch.zeros(number, dtype=torch.bool).index_fill_(0, rows, True)
        assert bool(out[read].isfinite().all()) and bool(lse[read].isfinite().all())
        assert bool((out[~read] == 0).all()) and bool((lse[~read] == -torch.inf).all())


def test_nan_stays_nan(each_set: str) -> None:
    q, k, v = operands(1, 1, 1, 128, 256)
    q[0, 0, 3] = torch.nan
    out = native.run(call(q, k, v, block_mask(128, 256))).out[0, 0]
    assert bool(out[3].isnan().all()) and not bool(out[4:].isnan().any())
    q, k, _ = operands(1, 1, 1, 128, 256)
    k[0, 0, 3] = torch.nan
    seen = block_mask(128, 256).materialize(Layout.plain(128), Layout.plain(256))[0, 0, :, 3]
    out = native.run(call(q, k, v, block_mask(128, 256))).out[0, 0]
    assert torch.equal(out.isnan().all(-1), seen) and 0 < seen.sum() < 128


def test_once_warm_it_is_taken_and_needs_no_graph_or_gradient(warm: None) -> None:
    at = sparse()
    with torch.inference_mode():
        assert choose(at).kernel == "native"
        assert error(attend(at).out, truth(at).out) < 1e-5
    learned = at.replace(q=at.q.detach().requires_grad_())
    assert choose(learned).reasons["native"] == ["it has no backward"]
    assert "it takes float32 and bfloat16 on the CPU" in native.refuses(at.replace(q=at.q.double()))[0]


@pytest.mark.compile
def test_warming_reopens_choices_and_gather_stands_in_inside_a_graph(cold: None) -> None:
    torch._dynamo.reset()
    at = sparse()
    with torch.no_grad():
        assert choose(at).kernel == "gather"
        if reason := ops.warm():
            pytest.skip(reason)
        assert prepare(at).kernel == "native"
        run = torch.compile(lambda q: attend(at.replace(q=q)).out, fullgraph=True, backend="eager")
        assert error(run(at.q), truth(at).out) < 1e-5


def test_until_it_is_warm_it_refuses(cold: None) -> None:
    at = call(*operands(1, 1, 1, 128, 128), block_mask(128, 128))
    assert native.refuses(at) == ["not warmed; call saccade.ops.warm() before"]
