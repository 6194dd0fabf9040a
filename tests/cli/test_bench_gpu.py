"""The bench for a card: tried out tiny by Triton's interpreter, without host libraries; what it sums up."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from saccade.cli import bench_gpu
from saccade.experiments import Row
from saccade.ops.triton_kernel.lists import packed
from saccade.studies.cuda_kernel import gpu
from saccade.studies.cuda_kernel.gpu import DRY, GpuBench, cases, guarded, summary
from saccade.studies.cuda_kernel.times import Shape, lists_of

COMMAND = """
import sys
sys.modules.update(diffusers=None, transformers=None, timm=None)
from saccade.cli import main
main(["bench", "gpu", "--dry", "--out", sys.argv[1]])
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")
def test_a_dry_run_measures_every_part_without_host_libraries(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", COMMAND, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert "3 of 3 comparisons within the error budget" in run.stdout
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["left"] == [] and {row["case"] for row in found["rows"]} == set(cases(DRY))
    assert [row for row in found["rows"] if "error" in row] == []
    compared = {row["kernel"]: row for row in found["rows"] if "ok" in row}
    assert set(compared) == {"triton", "sdpa", "gather"} and compared["triton"]["dk"] < 1e-5
    own = [row for row in found["rows"] if row["case"] == "own 70"]
    assert [(row["mixed"], row["blocks"]) for row in own] == [(False, 1), (True, 1)] and own[0]["ms"] > 0


def test_it_starts_anew_where_triton_is_not_yet_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], str]] = []

    def run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        started.append((command[3:], env["TRITON_INTERPRET"]))
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(bench_gpu.subprocess, "run", run)
    with pytest.raises(bench_gpu.typer.Exit) as ended:
        bench_gpu.gpu(tmp_path, dry=True, seconds=9)
    assert ended.value.exit_code == 3
    assert started == [(["bench", "gpu", "--out", str(tmp_path), "--dry", "--seconds", "9"], "1")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a card")
def test_without_a_card_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no CUDA device is at hand; --dry tries the bench out on the CPU"):
        bench_gpu.gpu(tmp_path)


def test_a_part_that_fails_leaves_the_others() -> None:
    def breaks() -> Iterator[Row]:
        yield {"n": 1}
        raise RuntimeError("out of memory\nand more")

    assert guarded(breaks) == [{"n": 1}, {"error": "RuntimeError: out of memory"}]


def test_all_parts_of_the_full_bench_have_names_of_their_own() -> None:
    names = list(cases(GpuBench()))
    assert names[:2] == ["card", "builds"] and len(set(names)) == len(names)
    assert {"exact bfloat16", "waits and graphs", "dense 119056", "own 119056", "call by flex", "model"} <= set(names)
    assert len(gpu.forms(GpuBench(), "float16")) == 6 * 4


def test_the_summary_divides_by_the_best_dense_kernel_and_by_open_blocks() -> None:
    dense = [{"case": "dense 8", "n": 8, "kernel": name, "masked": name == "b", "ms": ms} for name, ms in
             (("a", 4.0), ("b", 1.0), ("c", 2.0))]  # fmt: skip
    own = [
        {"case": "own 8", "n": 8, "share": share, "mixed": mixed, "ms": ms}
        for share, mixed, ms in ((1.0, False, 3.0), (1.0, True, 4.5), (0.5, False, 1.0), (0.5, True, 1.25))
    ]
    tile = {"case": "tiles 8", "n": 8, "share": 0.25, "mixed": True, "ms": 9.0}
    assert summary([*dense, *own, tile, {"case": "card"}]) == [{"n": 8, "unit": 1.5, "mixed": 1.375}]


@pytest.mark.parametrize("mixed", [False, True])
def test_made_up_lists_read_the_share_and_never_a_missing_key(mixed: bool) -> None:
    lists = lists_of(Shape(n=1000, device="cpu"), 0.5, mixed=mixed)
    full, others = lists.forward.spans[0, :, 1], lists.forward.spans[0, :, 2]
    assert (full + others).tolist() == [4] * 8
    assert bool((full > 2).all()) if not mixed else bool((full == 0).all())
    last = lists.forward.which[lists.forward.cols == 7]
    real = packed(torch.arange(128).expand(1, 128, -1) < 1000 % 128)[0]
    assert len(last) and bool((last == 2).all()) and torch.equal(lists.bits[2], real)
