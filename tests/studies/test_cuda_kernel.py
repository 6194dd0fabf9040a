"""The builds of the Triton kernel: what is kept fits the cards and today's tiles, and building again finds the same."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from saccade.experiments import Results
from saccade.experiments.results import newest
from saccade.ops.triton_kernel.tiles import PASSES, Pass, Tile, tile_for
from saccade.studies import cuda_kernel
from saccade.studies.cuda_kernel import Settings, build_row, build_table, taken

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHARED = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}  # bytes that a program may share
KEPT = newest(DOCS / "results", "cuda_kernel")


def test_every_build_that_the_page_shows_is_of_todays_tile_and_fits_its_card() -> None:
    wanted = Settings()
    rows = KEPT.rows("builds")
    assert len(rows) == len(wanted.targets) * len(wanted.dtypes) * len(wanted.widths) * len(PASSES)
    for row in rows:
        tile = tile_for(
            row["pass"], capability=divmod(row["target"], 10), width=row["width"], width_v=row["width_v"],
            dtype=getattr(torch, row["dtype"]), size=(128, 128),
        )  # fmt: skip
        assert Tile(row["queries"], row["keys"], row["warps"], row["stages"]) == tile
        assert row["shared"] <= SHARED[row["target"]] and 0 < row["registers"] <= 255
        assert row["spilled"] == 0 or row["dtype"] == "float32"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")
@pytest.mark.parametrize(
    ("target", "widths", "which"),
    [(90, (128, 128), "forward"), (90, (128, 128), "queries"), (90, (128, 128), "keys"), (80, (80, 64), "keys"),
     (100, (144, 128), "forward")],
)  # fmt: skip
def test_a_build_spills_nothing_and_fits_the_card(target: int, widths: tuple[int, int], which: str) -> None:
    (row,) = build_row(target, "bfloat16", *widths, which)
    assert row["spilled"] == 0 and row["shared"] <= SHARED[target] and 64 <= row["registers"] <= 255


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="needs the package triton")
@pytest.mark.parametrize("which", PASSES)
def test_kernels_are_built_for_arguments_of_one_too(which: Pass) -> None:
    from saccade.ops.triton_kernel.builds import built

    ones = ("h", "hk", "group", "n", "m", "blocks", "pattern_b", "pattern_h")
    assert built(which, target=90, width=64, width_v=64, ones=ones).spilled == 0


def test_without_triton_the_page_says_what_was_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_kernel, "find_spec", lambda name: None)
    rows = [row for which in PASSES for row in build_row(90, "bfloat16", 64, 64, which)]
    assert {row["registers"] for row in rows} == {None}
    table = build_table(Results(device="", date="", versions={}, tables={"builds": rows}), None)
    assert table.splitlines()[-1].startswith("| sm_90 | bfloat16 | 64, 64 | 128 x 64, 8: not built |")


def test_a_cell_names_what_is_spilled() -> None:
    row = {"queries": 64, "keys": 32, "warps": 4, "registers": 255, "spilled": 8, "shared": 2048}
    assert taken(row) == "64 x 32, 4: 255, 2 KiB, 8 B spilled"
    assert taken(row | {"spilled": 0}) == "64 x 32, 4: 255, 2 KiB"
