"""Compile `native.cpp` once for a machine, and load it.

The library is kept in the user's cache under a name made of source, torch version, compiler and processor, so a change
of any of them compiles anew. It needs no headers but the compiler's own, and takes a few seconds.
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
WIDE = ("-mprefer-vector-width=512",) if platform.machine() in ("x86_64", "AMD64") else ()
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
LIBRARIES = Path(torch.__file__).parent / "lib"


class BuildError(SaccadeError, RuntimeError):
    """The kernel could not be compiled or loaded; the message says why."""


def compiler() -> str | None:
    """The C++ compiler: $CXX, g++, clang++ or c++."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++", "c++"))), None)


@cache
def library() -> ctypes.CDLL:
    """The loaded library, compiled first if the cache has none. Raises BuildError."""
    found = compiler()
    if found is None:
        raise BuildError("no C++ compiler found (g++ or clang++)")
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
