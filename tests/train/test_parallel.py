"""Two processes end where one does: really launched, compared in float64."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from saccade.train.loop import fit
from saccade.train.optimisers import Optim
from tests.train.parallel import FIT, task, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
SHARDED = "shard=true,optim.kind=adamw"
RUNS = (
    "two",
    "parts,accumulate=2,find_unused=true",
    f"sharded,{SHARDED}",
    f"torn,steps=3,{SHARDED}",
    f"torn,{SHARDED}",
)
LAUNCH = ("accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1", "--main_process_port=0")
ADAMW = replace(FIT, optim=replace(FIT.optim, kind="adamw"))


def launched(*words: str) -> subprocess.CompletedProcess[str]:
    """Two processes of a module or script; without a GPU the launcher's processes stay on the CPU."""
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    given = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", *LAUNCH, "--mixed_precision=no", "--dynamo_backend=no", *words]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes made of `RUNS`."""
    folder = tmp_path_factory.mktemp("pairs")
    launched("-m", "tests.train.parallel", str(folder), *RUNS)
    return folder


def apart(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def test_two_processes_end_where_one_does(pairs: Path, tmp_path: Path) -> None:
    alone = train(tmp_path / "one")
    start = {name: value.clone() for name, value in task().module.state_dict().items()}
    assert apart(alone, start) > 1e-3
    for name in ("two", "parts"):
        assert apart(alone, load_file(pairs / name / "average.safetensors")) < 1e-12


def test_shards_end_where_one_process_does(pairs: Path, tmp_path: Path) -> None:
    alone = train(tmp_path / "one", ADAMW)
    assert apart(alone, load_file(pairs / "sharded" / "average.safetensors")) < 1e-12
    assert (pairs / "sharded" / "sheet-000008.png").read_bytes() == (tmp_path / "one/sheet-000008.png").read_bytes()


def test_sharded_runs_go_on(pairs: Path) -> None:
    whole, torn = (load_file(pairs / name / "average.safetensors") for name in ("sharded", "torn"))
    assert apart(whole, torn) == 0


def test_a_checkpoint_of_shards_is_one_of_a_single_process(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes((pairs / "torn" / "checkpoint.pt").read_bytes())
    expected, alone = (train(folder, replace(ADAMW, steps=10)) for folder in (tmp_path / "whole", tmp_path))
    assert apart(expected, alone) < 1e-12


def test_losses_in_the_log_are_means_over_the_processes(pairs: Path, tmp_path: Path) -> None:
    train(tmp_path / "one")
    alone, both = (
        [json.loads(line)["mse"] for line in (folder / "loss.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "one", pairs / "two")
    )
    torch.testing.assert_close(both, alone, rtol=1e-6, atol=0)


def test_the_command_is_shared_too(tmp_path: Path) -> None:
    """One line a step says that the processes found each other, one line of output that one of them speaks."""
    small = ("--set=options=label:shape,count:16,held:16", "--set=evaluation.pictures=16", "--set=evaluation.steps=1")
    words = ("train", "dit", "--steps=2", "--set=train.batch=4", "--set=train.fit.log_every=1", *small)
    (script := tmp_path / "command.py").write_text("from saccade.cli import main\n\nmain()\n")
    done = launched(str(script), *words, f"--out={tmp_path}")
    assert done.stdout.split() == ["model:", str(tmp_path / "model")]
    assert len((tmp_path / "train" / "loss.jsonl").read_text().splitlines()) == 2
    assert (tmp_path / "model" / "measured.json").exists()


def test_shards_of_one_process_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="nothing to share out with processes=1; start two or more by accelerate launch"
    ):
        fit(task(), replace(FIT, shard=True, optim=Optim()), tmp_path, cpu=True)
