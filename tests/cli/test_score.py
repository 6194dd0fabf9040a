"""`saccade score`: a folder of edits, scored from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saccade.cli import main
from tests.pie_folder import write_folder


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(("score", "pie-bench", *words))
    return int(stop.value.code or 0)


def test_perfect_edits_leave_the_rest_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path)
    assert run("--folder", str(folder), "--results", str(folder / "results"), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [task["key"] for task in shown["tasks"]] == ["000", "001"]
    assert all((task["mse"], task["psnr"], task["ssim"]) == (0, None, 1) for task in shown["tasks"])
    colour, delete = shown["tasks"]
    assert colour["canny_ssim"] > delete["canny_ssim"]
    assert list(shown["means"]) == ["all", "delete object", "change attribute colour"]
    assert shown["means"]["all"]["mse"] == {"low": None, "mid": 0, "high": None, "n": 2}
    assert any("give --clip FOLDER" in remark for remark in shown["remarks"])


def test_a_stain_outside_the_mask_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path)
    path = folder / "results" / "6_colour" / "000.png"
    picture = np.asarray(Image.open(path)).copy()
    picture[400:450, 40:90] = 0
    Image.fromarray(picture).save(path)
    assert run("--folder", str(folder), "--results", str(folder / "results"), "--json") == 0
    stained, clean = json.loads(capsys.readouterr().out)["tasks"]
    assert stained["psnr"] is not None and stained["kept_psnr"] < stained["psnr"] and clean["psnr"] is None


def test_the_table_has_a_row_a_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path)
    (folder / "results" / "3_delete" / "001.png").unlink()
    assert run("--folder", str(folder), "--results", str(folder / "results"), "--partial") == 0
    text = capsys.readouterr().out
    assert "change attribute colour" in text and "canny ssim" in text and "1 edits are missing" in text


def test_what_is_missing_or_of_another_size_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path)
    results = folder / "results"
    assert run("--folder", str(folder), "--results", str(tmp_path / "none"), "--partial") == 2
    assert "lacks 2 of 2 edits, the first is 6_colour/000.png" in capsys.readouterr().err
    Image.new("RGB", (256, 256)).save(results / "6_colour" / "000.png")
    assert run("--folder", str(folder), "--results", str(results)) == 2
    assert "(256, 256) pixels, its source (512, 512); both must be square" in capsys.readouterr().err
