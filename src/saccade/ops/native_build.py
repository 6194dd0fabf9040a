"""Compile the C++ kernels once for a machine and an instruction set, and load them.

Vectors come from the compiler, so one source serves every processor; the instruction set is the best that torch finds
(`ATEN_CPU_CAPABILITY=avx2` makes torch pretend), or the one the environment's SACCADE_NATIVE names. A library is kept
in the user's cache under a name made of sources, flags, compiler and torch version, so a change of any of them
compiles anew. It needs no headers but the compiler's own, and takes a few seconds.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from saccade.core.cache_folder import cache_folder as cache_folder
from saccade.core.errors import SaccadeError

FOLDER = Path(__file__).parent
X86 = platform.machine() in ("x86_64", "AMD64")
FLAGS = ("-O3", "-std=c++17", "-shared", "-fPIC", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math",
         "-fopenmp-simd")  # fmt: skip
SETS: dict[str, tuple[str, ...]] = {
    "plain": (),  # what every processor of the kind has: SSE2 on x86, NEON on Arm
    "avx2": ("-mavx2", "-mfma"),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"),
}
FOUND = {"AVX2": "avx2", "AVX512": "avx512"}  # torch's words for them
COMPILERS = ("g++", "clang++", "c++")
SOURCES = {"native": ("native.cpp", "native_chosen.cpp", "native_rows.cpp"), "native_half": ("native_half.cpp",)}
LINKED = ("native_half",)  # that call torch's own C++
LIBRARIES = Path(torch.__file__).parent / "lib"


class BuildError(SaccadeError, RuntimeError):
    """A kernel could not be compiled or loaded; the message says why."""


def obstacle() -> str | None:
    """Why the kernel cannot run here: switched off, instructions or a compiler that are missing; None where it can.

    Raises ValueError for an unknown SACCADE_NATIVE.
    """
    wanted, best = _switch(), best_set()
    if wanted == "off":
        return "SACCADE_NATIVE=off switches it off"
    if wanted != "on" and [*SETS].index(wanted) > [*SETS].index(best):
        return f"SACCADE_NATIVE={wanted}, but torch finds no more than {best} on this processor"
    return None if compiler(*COMPILERS) else no_compiler(*COMPILERS)


def instruction_set() -> str:
    """The instruction set that is compiled for: the one SACCADE_NATIVE names, else the best."""
    wanted = _switch()
    return wanted if wanted in SETS else best_set()


def best_set() -> str:
    """The best instruction set torch finds here."""
    return FOUND.get(torch.backends.cpu.get_cpu_capability(), "plain") if X86 else "plain"


def multiplies_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 faster than float32: by AMX, or by AMD's AVX-512.

    Intel's AVX-512 does not: its bfloat16 products take twice as long as those of float32.
    """
    info = processor().split()
    return "amx_bf16" in info or {"avx512_bf16", "AuthenticAMD"} <= set(info)


def _switch() -> str:
    switch = os.environ.get("SACCADE_NATIVE") or "on"
    if switch not in ("on", "off", *SETS):
        raise ValueError(f"SACCADE_NATIVE={switch} must be one of {', '.join(('on', 'off', *SETS))}")
    return switch


def compiler(*names: str) -> str | None:
    """The C++ compiler: $CXX where that is set, as for torch.compile, else the first of these names on the path."""
    chosen = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [chosen] if chosen else names)), None)


def no_compiler(*names: str) -> str:
    """Says that `compiler` found none."""
    chosen = os.environ.get("CXX")
    return f"no C++ compiler found ({f'CXX={chosen}' if chosen else ' or '.join(names)})"


@cache
def library(name: str, instructions: str) -> ctypes.CDLL:
    """The library `name` for an instruction set, compiled first if the cache has none. Raises BuildError."""
    found = compiler(*COMPILERS)
    if found is None:
        raise BuildError(no_compiler(*COMPILERS))
    linked = (f"-L{LIBRARIES}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{LIBRARIES}") if name in LINKED else ()
    command = [found, *FLAGS, *SETS[instructions], *(str(FOLDER / file) for file in SOURCES[name]), *linked]
    path = cache_folder() / f"{name}-{instructions}-{_mark(name, command)}.so"
    if not path.is_file():
        _compile(command, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"this torch does not offer what {name} needs: {error}") from error


@cache
def parallel() -> int | None:
    """Address of GOMP_parallel in torch's own pool of threads; None where torch has another kind of pool."""
    try:
        pool = ctypes.CDLL(str(next(LIBRARIES.glob("libtorch_cpu.*")))).GOMP_parallel
    except (OSError, AttributeError, StopIteration):
        return None
    return ctypes.cast(pool, ctypes.c_void_p).value


def _mark(name: str, command: list[str]) -> str:
    headers = sorted(file.name for file in FOLDER.glob("native*.h"))
    sources = [(FOLDER / file).read_text() for file in (*headers, *SOURCES[name])]
    parts = (*sources, torch.__version__, platform.machine(), *command)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def processor() -> str:
    """What the system says of the first processor."""
    info = Path("/proc/cpuinfo")
    return info.read_text().split("\n\n")[0] if info.is_file() else platform.processor()


def _compile(command: list[str], path: Path) -> None:
    """Into a file beside the place, then moved there, so that two processes never see half a library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{command[0]} could not compile {path.name}: {done.stderr.strip()[-400:]}")
        made.replace(path)
