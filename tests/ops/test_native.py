"""The compiled CPU kernel is exact in its types, refuses what it cannot do, and is compiled only when asked."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saccade import ops
from saccade.core.layout import Layout
from saccade.core.masks import lower
from saccade.ops import attend, choose, gather, native, native_build, prepare
from saccade.ops.operands import operands as fold
from tests.ops.cases import allowed_error, biases, block_mask, call, error, operands, padding, truth

N = 1280


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that never warmed the kernel, and again afterwards."""
    monkeypatch.setattr(native, "_state", {"warm": False, "reason": native.COLD})
    native_build.library.cache_clear()
    yield
    native_build.library.cache_clear()


@pytest.fixture
def warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_state", {"warm": False, "reason": native.COLD})
    native.warm()


@pytest.mark.compile
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(1, 2, 2, 256, 256), (2, 4, 2, 131, 277), (1, 2, 1, 300, 129)], ids=str)
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("d", [13, 40])
def test_it_stays_in_the_error_budget(warm: None, shape: tuple, dtype: torch.dtype, biased: bool, d: int) -> None:
    b, h, _, n, m = shape
    mask = block_mask(n, m, b=b, h=h) & padding(b, m)
    at = call(*operands(*shape, d=d, dv=24, dtype=dtype), mask, biases(h, n, m, dtype) if biased else None)
    found, true = native.run(at, want_lse=True), truth(at)
    assert error(found.out, true.out) <= allowed_error(at, true.out)
    assert error(found.lse, true.lse) <= (1e-5 if not biased or dtype == torch.float32 else 3e-2)


@pytest.mark.compile
def test_large_scores_and_hidden_rows_are_exact(warm: None) -> None:
    q, k, v = operands(1, 2, 2, 200, 300)
    large = call(q * 40, k, v, block_mask(200, 300))
    assert error(native.run(large).out, truth(large).out) < 1e-4
    hidden = native.run(call(q, k, v, block_mask(200, 300) & padding(1, 300, hidden=300)), want_lse=True)
    assert bool((hidden.out == 0).all()) and bool((hidden.lse == -torch.inf).all())


@pytest.mark.compile
def test_the_number_of_threads_changes_no_bit(warm: None) -> None:
    at = call(*operands(2, 4, 2, 300, 300, d=64), block_mask(300, 300, b=2, h=4))
    before, outs = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            outs.append(native.run(at, want_lse=True))
    finally:
        torch.set_num_threads(before)
    (out, lse), (out3, lse3) = ((x.out, x.lse) for x in outs)
    assert torch.equal(out, out3) and torch.equal(lse, lse3)


@pytest.mark.compile
def test_rows_that_read_nothing_give_nothing_in_poisoned_memory(warm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = torch.Tensor.new_empty
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda x, *size: empty(x, *size).fill_(torch.nan))
    at = call(*operands(1, 2, 2, 256, 256), block_mask(256, 256, h=2, size=128, keep=0))
    folded = fold(at)
    found, plan, blocks, _ = gather.laid_out(at, folded)
    assert found.tiles is not None
    for rows in (plan.rows, plan.rows[:-1]):
        out, lse = native.attend_blocks(*blocks, None, found.tiles, replace(plan, rows=rows), folded.scale)
        read = torch.zeros(4, dtype=torch.bool).index_fill_(0, rows, True)
        assert bool(out[read].isfinite().all()) and bool(lse[read].isfinite().all())
        assert bool((out[~read] == 0).all()) and bool((lse[~read] == -torch.inf).all())


@pytest.mark.compile
def test_nan_stays_nan(warm: None) -> None:
    q, k, v = operands(1, 1, 1, 128, 256)
    q[0, 0, 3] = torch.nan
    out = native.run(call(q, k, v, block_mask(128, 256))).out[0, 0]
    assert bool(out[3].isnan().all()) and not bool(out[4:].isnan().any())


@pytest.mark.compile
def test_once_warm_it_is_taken_and_needs_no_graph_or_gradient(warm: None) -> None:
    layout = Layout.plain(N)
    at = call(*operands(1, 2, 2, N, N), lower(block_mask(N, N, keep=0.1, size=128), layout, layout))
    with torch.inference_mode():
        assert choose(at).kernel == "native"
        assert error(attend(at).out, truth(at).out) < 1e-5
    learned = at.replace(q=at.q.detach().requires_grad_())
    assert choose(learned).reasons["native"] == ["it has no backward"]
    assert "it takes float32 and bfloat16 on the CPU" in native.refuses(at.replace(q=at.q.double()))[0]


@pytest.mark.compile
def test_warming_reopens_choices_and_gather_stands_in_inside_a_graph(cold: None) -> None:
    torch._dynamo.reset()
    layout = Layout.plain(N)
    at = call(*operands(1, 2, 2, N, N), lower(block_mask(N, N, keep=0.1, size=128), layout, layout))
    with torch.no_grad():
        assert choose(at).kernel == "gather"
        assert ops.warm() is None
        assert prepare(at).kernel == "native"
        run = torch.compile(lambda q: attend(at.replace(q=q)).out, fullgraph=True, backend="eager")
        assert error(run(at.q), truth(at).out) < 1e-5


@pytest.mark.compile
def test_it_is_compiled_once_for_a_machine(cold: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.warm()
    made = list((tmp_path / "saccade").iterdir())
    assert [path.suffix for path in made] == [".so"]
    native_build.library.cache_clear()
    monkeypatch.setattr(subprocess, "run", None)
    native.warm()
    assert list((tmp_path / "saccade").iterdir()) == made


def test_until_it_is_warm_it_refuses(cold: None) -> None:
    at = call(*operands(1, 1, 1, 128, 128), block_mask(128, 128))
    assert native.refuses(at) == ["not warmed; call saccade.ops.warm() before"]


def test_without_a_compiler_it_says_so(cold: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_build, "compiler", lambda: None)
    with pytest.raises(native_build.BuildError, match="no C\\+\\+ compiler found"):
        native.warm()
    at = call(*operands(1, 1, 1, 128, 128), block_mask(128, 128))
    assert native.refuses(at) == ["no C++ compiler found (g++ or clang++)"]
    assert ops.warm() == "no C++ compiler found (g++ or clang++)"


def test_what_the_compiler_says_is_told(cold: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "native.cpp"
    broken.write_text("this is no C++")
    monkeypatch.setattr(native_build, "SOURCE", broken)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if native_build.compiler() is None:
        pytest.skip("needs a C++ compiler")
    with pytest.raises(native_build.BuildError, match="could not compile native.cpp: .*error"):
        native.warm()
