"""A killed run goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from saccade.train.checkpoint import keep_lines_until, write_atomically

ROOT = Path(__file__).parents[2]


def run(*arguments: object, module: str = "tests.train.tiny") -> int:
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.slow
@pytest.mark.host
def test_a_run_killed_between_checkpoints_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert run(whole) == 0
    assert run(torn, 8) == -signal.SIGKILL
    assert not (torn / "average.safetensors").exists()
    assert run(torn) == 0
    expected, resumed = (load_file(folder / "average.safetensors") for folder in (whole, torn))
    assert expected.keys() == resumed.keys()
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []
    logs = [[json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()] for folder in (whole, torn)]
    assert [row["loss"] for row in logs[0]] == [row["loss"] for row in logs[1]]
    assert [row["step"] for row in logs[1]] == list(range(1, 11))


@pytest.mark.slow
def test_a_run_killed_between_parts_of_batches_ends_with_the_same_bits(tmp_path: Path) -> None:
    kept = "precision=bf16,accumulate=2,tensorboard=true"
    assert run(tmp_path, f"whole,{kept}", f"torn,{kept},last=5", module="tests.train.parallel") == -signal.SIGKILL
    assert not (tmp_path / "torn" / "average.safetensors").exists()
    assert run(tmp_path, f"torn,{kept}", module="tests.train.parallel") == 0
    expected, resumed = (load_file(tmp_path / name / "average.safetensors") for name in ("whole", "torn"))
    assert [name for name in expected if not torch.equal(expected[name], resumed[name])] == []
    rows = [json.loads(line) for line in (tmp_path / "torn" / "loss.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 9))


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "state"
    write_atomically(file, lambda partial: partial.write_text("old"))

    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, fail)
    assert file.read_text() == "old"


def test_log_lines_beyond_the_checkpoint_and_torn_lines_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "loss.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    keep_lines_until(file, 2)
    assert file.read_text() == '{"step": 1}\n{"step": 2}\n'
