"""A pretended card for every test of this folder that asks for one."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import compiler
from tests.cuda.pretended_device import Cards, load_guard

TENSOR = torch.tensor


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled guard of a CUDA device that does nothing, loaded."""
    if torch.version.cuda is not None:
        pytest.skip("this torch has CUDA of its own; the pretended card is for one without")
    if compiler() is None:
        pytest.skip("needs a C++ compiler ($CXX, or g++)")
    return load_guard(tmp_path_factory.mktemp("guard"), compiler())


@pytest.fixture
def cards(guard: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cards]:
    """Two cards of compute capability 9."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: types.SimpleNamespace(major=9, minor=0))
    monkeypatch.setattr(torch, "tensor", _tensor)
    with Cards() as pretended:
        yield pretended


def _tensor(data: Any, *, device: Any = None, **how: Any) -> torch.Tensor:
    """`torch.tensor`, whose own way to a card passes no mode."""
    return TENSOR(data, **how).to(device or "cpu")
