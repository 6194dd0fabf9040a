"""The compiled CPU kernel is exact in its types, refuses what it cannot do, and is compiled only when asked.

Where the machine cannot run it, what needs it is skipped with the kernel's own reason; what then runs instead is tested
on every machine.
"""

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saccade import ops
from saccade.core.call import AttentionCall
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
    warm_or_skip()


@pytest.fixture
def built_anew(cold: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled kernels, empty."""
    if native_build.compiler(*native_build.COMPILERS) is None:
        pytest.skip(native_build.no_compiler(*native_build.COMPILERS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "saccade"


def warm_or_skip() -> None:
    if reason := ops.warm():
        pytest.skip(reason)


def sparse() -> AttentionCall:
    """A call that block-sparse kernels win."""
    layout = Layout.plain(N)
    return call(*operands(1, 2, 2, N, N), lower(block_mask(N, N, keep=0.1, size=128), layout, layout))


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


def test_large_scores_and_hidden_rows_are_exact(warm: None) -> None:
    q, k, v = operands(1, 2, 2, 200, 300)
    large = call(q * 40, k, v, block_mask(200, 300))
    assert error(native.run(large).out, truth(large).out) < 1e-4
    hidden = native.run(call(q, k, v, block_mask(200, 300) & padding(1, 300, hidden=300)), want_lse=True)
    assert bool((hidden.out == 0).all()) and bool((hidden.lse == -torch.inf).all())


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


def test_nan_stays_nan(warm: None) -> None:
    q, k, v = operands(1, 1, 1, 128, 256)
    q[0, 0, 3] = torch.nan
    out = native.run(call(q, k, v, block_mask(128, 256))).out[0, 0]
    assert bool(out[3].isnan().all()) and not bool(out[4:].isnan().any())


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
        warm_or_skip()
        assert prepare(at).kernel == "native"
        run = torch.compile(lambda q: attend(at.replace(q=q)).out, fullgraph=True, backend="eager")
        assert error(run(at.q), truth(at).out) < 1e-5


def test_it_runs_wherever_nothing_known_stands_in_its_way(cold: None) -> None:
    """So that a kernel broken on a processor that has all it needs fails here, while other tests of it are skipped."""
    if reason := native_build.obstacle() or ("" if native_build.X86 else "torch may lack these products here"):
        pytest.skip(reason)
    assert ops.warm() is None


def switched_off(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SACCADE_NATIVE", "off")
    return "SACCADE_NATIVE=off switches it off"


def without_avx512(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(native_build, "X86", True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    return "torch's matrix products need AVX-512, and torch finds AVX2 on this processor"


def without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> str:
    with_avx512(monkeypatch)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    return "no C++ compiler found (g++ or clang++ or c++)"


def with_a_wrong_compiler(monkeypatch: pytest.MonkeyPatch) -> str:
    with_avx512(monkeypatch)
    monkeypatch.setenv("CXX", "/nonexistent")
    return "no C++ compiler found (CXX=/nonexistent)"


def with_avx512(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SACCADE_NATIVE", raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")


@pytest.mark.parametrize("lack", [switched_off, without_avx512, without_a_compiler, with_a_wrong_compiler])
def test_where_it_cannot_run_it_says_why_and_gather_takes_its_calls(
    cold: None, monkeypatch: pytest.MonkeyPatch, lack: Callable[[pytest.MonkeyPatch], str]
) -> None:
    reason, at = lack(monkeypatch), sparse()
    assert ops.warm() == reason and not native.is_warm()
    with torch.no_grad():
        chosen = choose(at)
        assert chosen.kernel == "gather" and chosen.reasons["native"] == [reason]
        assert error(attend(at).out, truth(at).out) < 1e-5


def test_products_that_do_not_run_here_are_told(cold: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        saccade_attend = staticmethod(lambda job: 1)

    with_avx512(monkeypatch)
    monkeypatch.setattr(native_build, "compiler", lambda *names: "g++")
    monkeypatch.setattr(native, "library", Failing)
    assert ops.warm() == "the matrix products of this torch do not run on this processor"


def test_the_switch_is_on_or_off(cold: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_NATIVE", "no")
    with pytest.raises(ValueError, match="SACCADE_NATIVE=no must be on or off"):
        ops.warm()


def test_it_is_compiled_once_for_a_machine(built_anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native_build.library()
    made = list(built_anew.iterdir())
    assert [path.suffix for path in made] == [".so"]
    native_build.library.cache_clear()
    monkeypatch.setattr(subprocess, "run", None)
    native_build.library()
    assert list(built_anew.iterdir()) == made


def test_until_it_is_warm_it_refuses(cold: None) -> None:
    at = call(*operands(1, 1, 1, 128, 128), block_mask(128, 128))
    assert native.refuses(at) == ["not warmed; call saccade.ops.warm() before"]


def test_what_the_compiler_says_is_told(built_anew: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "native.cpp"
    broken.write_text("this is no C++")
    monkeypatch.setattr(native_build, "SOURCE", broken)
    with pytest.raises(native_build.BuildError, match="could not compile native.cpp: .*error"):
        native_build.library()
