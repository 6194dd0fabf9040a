"""The CPU kernel is compiled once for a machine and an instruction set; where it cannot be, it says why."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from saccade import ops
from saccade.ops import attend, choose, native, native_build
from tests.ops.cases import error, truth
from tests.ops.test_native import sparse


@pytest.fixture(autouse=True)
def cold(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that never warmed the kernel, and again afterwards."""
    monkeypatch.setattr(native, "_state", {"warm": False, "reason": native.COLD})
    monkeypatch.delenv("SACCADE_NATIVE", raising=False)
    native_build.library.cache_clear()
    yield
    native_build.library.cache_clear()


@pytest.fixture
def built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled kernels, empty."""
    if native_build.compiler(*native_build.COMPILERS) is None:
        pytest.skip(native_build.no_compiler(*native_build.COMPILERS))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "saccade"


def pretend(monkeypatch: pytest.MonkeyPatch, capability: str, x86: bool = True) -> None:
    monkeypatch.setattr(native_build, "X86", x86)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


def switched_off(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SACCADE_NATIVE", "off")
    return "SACCADE_NATIVE=off switches it off"


def more_than_there_is(monkeypatch: pytest.MonkeyPatch) -> str:
    pretend(monkeypatch, "AVX2")
    monkeypatch.setenv("SACCADE_NATIVE", "avx512")
    return "SACCADE_NATIVE=avx512, but torch finds no more than avx2 on this processor"


def without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    return "no C++ compiler found (g++ or clang++ or c++)"


def with_a_wrong_compiler(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("CXX", "/nonexistent")
    return "no C++ compiler found (CXX=/nonexistent)"


@pytest.mark.parametrize("lack", [switched_off, more_than_there_is, without_a_compiler, with_a_wrong_compiler])
def test_where_it_cannot_run_it_says_why_and_gather_takes_its_calls(
    monkeypatch: pytest.MonkeyPatch, lack: Callable[[pytest.MonkeyPatch], str]
) -> None:
    reason, at = lack(monkeypatch), sparse()
    assert ops.warm() == reason and not native.is_warm()
    with torch.no_grad():
        chosen = choose(at)
        assert chosen.kernel == "gather" and chosen.reasons["native"] == [reason]
        assert error(attend(at).out, truth(at).out) < 1e-5


def test_a_failure_of_its_threads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        saccade_attend = staticmethod(lambda job: 1)

    monkeypatch.setattr(native_build, "compiler", lambda *names: "g++")
    monkeypatch.setattr(native, "library", lambda name, instructions: Failing)
    assert ops.warm() == "the compiled kernel failed on this processor"


@pytest.mark.parametrize(
    ("capability", "x86", "found"),
    [("DEFAULT", True, "plain"), ("AVX2", True, "avx2"), ("AVX512", True, "avx512"), ("SVE256", False, "plain")],
)
def test_it_is_compiled_for_what_torch_finds_or_for_less(
    monkeypatch: pytest.MonkeyPatch, capability: str, x86: bool, found: str
) -> None:
    pretend(monkeypatch, capability, x86)
    assert native_build.instruction_set() == found
    monkeypatch.setenv("SACCADE_NATIVE", "plain")
    assert native_build.instruction_set() == "plain" and native_build.obstacle() in (None, without_compilers())


def without_compilers() -> str:
    return native_build.no_compiler(*native_build.COMPILERS)


@pytest.mark.parametrize(
    ("processor", "fast"),
    [
        ("vendor_id : GenuineIntel\nflags : avx512_bf16 amx_bf16", True),
        ("vendor_id : GenuineIntel\nflags : avx512_bf16", False),
        ("vendor_id : AuthenticAMD\nflags : avx512_bf16", True),
        ("vendor_id : AuthenticAMD\nflags : avx2", False),
    ],
)
def test_bfloat16_is_multiplied_as_such_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, processor: str, fast: bool
) -> None:
    monkeypatch.setattr(native_build, "processor", lambda: processor)
    assert native_build.multiplies_bfloat16() == fast


def test_without_torchs_products_bfloat16_is_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the processor has them but this torch does not."""
    if reason := ops.warm():
        pytest.skip(reason)
    compiled = native.library

    def lacking(name: str, instructions: str) -> object:
        if name == "native_half":
            raise native_build.BuildError("no such symbol")
        return compiled(name, "plain")

    monkeypatch.setattr(native, "instruction_set", lambda: "avx512")
    monkeypatch.setattr(native, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(native, "library", lacking)
    assert ops.warm() is None and not native._state["products"]


def test_the_switch_is_known_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_NATIVE", "no")
    with pytest.raises(ValueError, match="SACCADE_NATIVE=no must be one of on, off, plain, avx2, avx512"):
        ops.warm()


def test_it_is_compiled_once_for_an_instruction_set(built_anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native_build.library("native", "plain")
    made = list(built_anew.iterdir())
    assert [path.name.rpartition("-")[0] for path in made] == ["native-plain"] and made[0].suffix == ".so"
    native_build.library.cache_clear()
    monkeypatch.setattr(subprocess, "run", None)
    native_build.library("native", "plain")
    assert list(built_anew.iterdir()) == made


def test_what_the_compiler_says_is_told(built_anew: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "native_job.h").write_text("")
    (tmp_path / "native.cpp").write_text("this is no C++")
    for file in native_build.SOURCES["native"][1:]:
        (tmp_path / file).write_text("")
    monkeypatch.setattr(native_build, "FOLDER", tmp_path)
    with pytest.raises(native_build.BuildError, match="could not compile native-plain.*error"):
        native_build.library("native", "plain")
