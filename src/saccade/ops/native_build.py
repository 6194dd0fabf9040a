"""Compile `native.cpp` once for a machine, and load it.

The library is kept in the user's cache under a name made of source, torch version, compiler and processor, so a change
of any of them compiles anew. It needs no headers but the compiler's own, and takes a few seconds. What a machine lacks
is known before anything is compiled.
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

from saccade.core.errors import SaccadeError

SOURCE = Path(__file__).with_name("native.cpp")
X86 = platform.machine() in ("x86_64", "AMD64")
WIDE = ("-mprefer-vector-width=512",) if X86 else ()
FLAGS = (
    *("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC"),
    *(
        "-ffp-contract=fast",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-fopenmp-simd",
        *WIDE,
    ),  # so that loops become vectors
)
COMPILERS = ("g++", "clang++", "c++")
LIBRARIES = Path(torch.__file__).parent / "lib"


class BuildError(SaccadeError, RuntimeError):
    """The kernel could not be compiled or loaded; the message says why."""


def obstacle() -> str | None:
    """Why the kernel cannot run here: switched off, a processor or a compiler that is missing; None where it can.

    Raises ValueError for a SACCADE_NATIVE that is neither on nor off.
    """
    switch = os.environ.get("SACCADE_NATIVE") or "on"
    if switch not in ("on", "off"):
        raise ValueError(f"SACCADE_NATIVE={switch} must be on or off")
    if switch == "off":
        return "SACCADE_NATIVE=off switches it off"
    capability = torch.backends.cpu.get_cpu_capability()
    if X86 and capability != "AVX512":
        return f"torch's matrix products need AVX-512, and torch finds {capability} on this processor"
    return None if compiler(*COMPILERS) else no_compiler(*COMPILERS)


def compiler(*names: str) -> str | None:
    """The C++ compiler: $CXX where that is set, as for torch.compile, else the first of these names on the path."""
    chosen = os.environ.get("CXX")
    return next(filter(None, map(shutil.which, [chosen] if chosen else names)), None)


def no_compiler(*names: str) -> str:
    """Says that `compiler` found none."""
    chosen = os.environ.get("CXX")
    return f"no C++ compiler found ({f'CXX={chosen}' if chosen else ' or '.join(names)})"


@cache
def library() -> ctypes.CDLL:
    """The loaded library, compiled first if the cache has none. Raises BuildError."""
    found = compiler(*COMPILERS)
    if found is None:
        raise BuildError(no_compiler(*COMPILERS))
    path = cache_folder() / f"native-{_mark(found)}.so"
    if not path.is_file():
        _compile(found, path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"this torch does not offer what native.cpp needs: {error}") from error


def cache_folder() -> Path:
    """Where compiled kernels are kept: $XDG_CACHE_HOME/saccade, by default ~/.cache/saccade."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "saccade"


def _mark(compiler: str) -> str:
    parts = (SOURCE.read_text(), torch.__version__, compiler, platform.machine(), _processor(), *FLAGS)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else [platform.processor()]
    return next((line for line in lines if line.startswith("flags")), lines[0] if lines else "")


def _compile(compiler: str, path: Path) -> None:
    """Into a file beside the place, then moved there, so that two processes never see half a library."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        linked = (f"-L{LIBRARIES}", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{LIBRARIES}")
        done = subprocess.run(
            [compiler, *FLAGS, str(SOURCE), "-o", str(made), *linked], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BuildError(f"{compiler} could not compile native.cpp: {done.stderr.strip()[-400:]}")
        made.replace(path)
