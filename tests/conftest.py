"""What every test runs under.

No network; the cores are shared among xdist's workers; hypothesis repeats itself exactly; memory that a kernel
allocates and never writes reads as NaN (integers: the largest value), so unwritten output shows. Compiled and timed
tests run without the fill, since it makes torch pick other code there.
"""

import atexit
import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import jaxtyping
import pytest
import torch
from hypothesis import settings
from jaxtyping import config as runtime_checks

from shape_checks import decorate

WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
torch.set_num_threads(max(1, (os.cpu_count() or 1) // WORKERS))
settings.register_profile("saccade", deadline=None, derandomize=True, max_examples=30, print_blob=True)
settings.load_profile("saccade")
jaxtyping.jaxtyped = decorate


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {
        "gpu": None if torch.cuda.is_available() else "needs a CUDA device",
        "inductor": None if compiler() else "needs the C++ compiler of torch.compile ($CXX, or g++)",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Modules and tests stay to the end: the garbage collector need not go through them again and again."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


@pytest.fixture(autouse=True)
def poisoned_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fill what `torch.empty` and its variants return with NaN for the time of one test."""
    if any(request.node.get_closest_marker(marker) for marker in ("compile", "timing")):
        yield
        return
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def unchecked_bad_input(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test of our error messages breaks shapes that the run-time checks would stop first."""
    runtime_checks.update("jaxtyping_disable", request.node.get_closest_marker("bad_input") is not None)
    yield
    runtime_checks.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of optional real data sets."""
    root = os.environ.get("SACCADE_DATA")
    if not root:
        pytest.skip("SACCADE_DATA is not set; it names the folder of the optional data sets")
    if not Path(root).is_dir():
        pytest.skip(f"SACCADE_DATA={root} is not a folder")
    return Path(root)


def compiler() -> str | None:
    """The one that torch.compile looks for."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))
