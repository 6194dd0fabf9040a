"""FlexAttention's CUDA code, compiled without a card, spills nothing and fits the shared memory."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cuda.flex_build import ENVIRONMENT, SHARED

HERE = Path(__file__).resolve().parent


@pytest.mark.slow
@pytest.mark.inductor
@pytest.mark.parametrize(("capability", "widths"), [(9, "64:64 96:96 128:128 136:128"), (8, "128:128")])
def test_no_register_is_spilled(guard: Path, tmp_path: Path, capability: int, widths: str) -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs Triton; it comes with the extra [dev]")
    command = [sys.executable, str(HERE / "flex_build.py"), str(capability), str(guard), *widths.split()]
    where = ENVIRONMENT | {"TRITON_CACHE_DIR": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | where)
    assert run.returncode == 0, run.stderr[-3000:]
    built = [json.loads(line) for line in run.stdout.splitlines()]
    assert [f"{b['w']}:{b['dv']}" for b in built] == widths.split()
    assert all(b["spilled"] == 0 and b["shared"] <= SHARED[capability] for b in built), built
