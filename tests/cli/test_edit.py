"""`saccade edit`: pictures, sheets and figures it writes, and how it fails."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import saccade
from saccade.cli import main
from saccade.metrics.output import to_bytes
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
SOURCE, TARGET = "a red circle left of a blue square", "a green circle left of a blue square"
LAST = "a green circle left of a yellow square"
SMALL = ("--steps", "2", "--height", "32", "--width", "32")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(("edit", *words))
    return int(stop.value.code or 0)


def test_the_picture_is_that_of_the_function(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = tmp_path / "new" / "a.png", tmp_path / "s.png"
    words = ("-t", TARGET, "-w", "circle", "--model", model, "--seed", "3", "--out", str(out), "--sheet", str(sheet))
    assert run(SOURCE, *words, *SMALL, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    found = saccade.edit(tiny_flux(), source=SOURCE, target=TARGET, word="circle", seed=3, steps=2, height=32, width=32)
    assert np.array_equal(np.asarray(Image.open(out)), to_bytes(found.after)[0])
    assert shown["path"] == str(out) and shown["sheet"] == str(sheet) and shown["rounds"][0]["target"] == TARGET
    assert shown["rounds"][0]["edited"] == pytest.approx(float(found.changed.mean()))
    with Image.open(sheet) as drawn:
        across, down = drawn.size
    assert across > 3 * down  # before, after, mask and one map


def test_rounds_go_on_from_one_another(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = tmp_path / "a.png", tmp_path / "s.html"
    rounds = ("-t", TARGET, "-w", "circle", "-t", LAST, "-w", "square", "--strength", "1", "--strength", "0.5")
    assert run(SOURCE, *rounds, "--model", model, "--out", str(out), "--sheet", str(sheet), *SMALL, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(r["source"], r["target"]) for r in shown["rounds"]] == [(SOURCE, TARGET), (TARGET, LAST)]
    page = sheet.read_text()
    assert page.count("<img ") == 8 and "http" not in page.replace("http://www.w3.org", "")


def test_a_picture_and_a_mask_of_yours(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (48, 48), (200, 30, 30)).save(tmp_path / "p.png")
    white = np.zeros((32, 32), np.uint8)
    white[8:16, 8:16] = 255
    Image.fromarray(white).save(tmp_path / "m.png")
    words = ("--picture", str(tmp_path / "p.png"), "--mask", str(tmp_path / "m.png"), "--out", str(tmp_path / "a.png"))
    assert run(SOURCE, "-t", TARGET, *words, "--model", model, *SMALL) == 0
    text = capsys.readouterr().out
    assert "6% edited, the rest kept at" in text and "a.png in" in text


def test_picture_and_mask_are_turned_and_laid_on_their_grounds(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x112] = 6  # the camera lay on its side: what is stored at the left is shown above
    stored = Image.new("RGBA", (48, 32), (0, 0, 0, 0))
    stored.paste((255, 255, 255, 255), (0, 0, 8, 32))
    stored.save(tmp_path / "m.png", exif=exif)
    stored.paste((255, 0, 0, 255), (0, 0, 8, 32))
    stored.save(tmp_path / "p.png", exif=exif)
    asked: dict[str, Any] = {}

    def listen(pipe: Any, **given: Any) -> None:
        asked.update(given)
        raise ValueError("that is all")

    monkeypatch.setattr(import_module("saccade.edit"), "edit", listen)
    words = ("--picture", str(tmp_path / "p.png"), "--mask", str(tmp_path / "m.png"), "--out", str(tmp_path / "a.png"))
    assert run(SOURCE, "-t", TARGET, *words, "--model", model) == 2
    picture, white = np.asarray(asked["source"]), asked["mask"]
    assert picture.shape == (48, 32, 3) and white.shape == (48, 32)
    assert (picture[:8] == (255, 0, 0)).all() and (picture[8:] == 255).all()
    assert white[:8].all() and not white[8:].any()


def test_a_record_of_two_rounds_is_drawn_again(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, record, sheet = tmp_path / "a.png", tmp_path / "r.safetensors", tmp_path / "s.html"
    rounds = ("-t", TARGET, "-w", "circle", "-t", LAST, "-w", "square", "--seed", "3", "--system", "clear(radius=1)")
    assert run(SOURCE, *rounds, "--model", model, "--out", str(out), "--record", str(record), *SMALL, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["record"] == str(record) and len(shown["digests"]) == 4
    again = ("--replay", str(record), "--model", model, "--out", str(tmp_path / "b.png"), "--sheet", str(sheet))
    assert run(*again, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["digests"], found["rounds"]) == (shown["digests"], shown["rounds"])
    assert (tmp_path / "b.png").read_bytes() == out.read_bytes() and sheet.read_text().count("<img ") == 8


@pytest.mark.bad_input
def test_a_record_goes_alone_and_an_edit_has_a_source(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        ((SOURCE,), "give SOURCE and --target of the edit, or --replay with a record of one"),
        ((), "give SOURCE and --target of the edit, or --replay with a record of one"),
        (("--replay", "r", "-t", TARGET, "--seed", "0"), "--replay draws what the record says; leave out target, seed"),
        (("--replay", "r"), "record='r' is no record of edit"),
    ):
        assert run(*words, "--model", model) == 2
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-w", "cat"), "word='cat' is not in the prompt"),
        (("-w", "circle", "-w", "square"), "--word is given 2 times for 1 targets; give one for each"),
        (("--strength", "2"), "strength=2.0 must be in [0, 1]"),
        (("--picture", "none.png"), "picture='none.png' is missing"),
        (("--mask", "none.png"), "mask='none.png' is missing"),
        (("--mask", __file__), f"mask='{__file__}' cannot be read: cannot identify image file"),
        (("--sheet", "s.tune"), "sheet='s.tune' ends in no picture format"),
        (("--height", "36", "--width", "36"), "height=36 must be a multiple of 8 pixels"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    model: str, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(SOURCE, "-t", TARGET, "--model", model, "--out", str(tmp_path / "a.png"), *SMALL, *words) == 2
    output = capsys.readouterr().err.strip()
    assert output.startswith("saccade: ") and message in output and "Traceback" not in output
