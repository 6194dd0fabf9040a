"""`saccade drag`: the picture, sheet and record it writes, and how it fails."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import saccade
from saccade.cli import main
from saccade.metrics.output import to_bytes
from saccade.papers.clear import Clear
from tests.test_drag import PICTURE, PROMPT
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
PLACED = ("--object", "red circle", "--box", "4,4,14,14", "--to", "0.75,0.25", "--steps", "1")
ASKED: dict[str, Any] = {"object": (4, 4, 14, 14), "word": "red circle", "to": (0.75, 0.25), "steps": 1}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save("photo.png")
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save("mask.png")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(("drag", *words))
    return int(stop.value.code or 0)


def test_the_picture_is_that_of_the_function_and_a_record_draws_it_again(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--other", "cross=0.6,0.6,0.9,0.9", "--tau", "0.4", "--seed", "3", "--system", "clear(radius=2)")
    files = ("--out", "new/a.png", "--record", "r.safetensors", "--sheet", "s.html")
    assert run(PROMPT, "-i", "photo.png", *PLACED, *options, *files, "--model", model, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    found = saccade.drag(
        tiny_flux(), PICTURE, prompt=PROMPT, **ASKED, others={"cross": (0.6, 0.6, 0.9, 0.9)}, tau=0.4, seed=3,
        systems=[Clear(radius=2)],
    )  # fmt: skip
    assert shown["path"] == str(tmp_path / "new" / "a.png")
    drawn = np.asarray(Image.open(shown["path"])).astype(int)  # weights of a file round otherwise
    assert np.abs(drawn - to_bytes(found.after)[0]).max() <= 1
    assert Path("s.html").read_text().count("<img ") == 3
    assert shown["from"] == pytest.approx(found.source.box) and shown["to"] == pytest.approx(found.target.box)
    assert run("--replay", "r.safetensors", "--model", model, "--out", "b.png", "--json") == 0
    assert json.loads(capsys.readouterr().out)["digests"] == shown["digests"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((PROMPT, "--object", "cross"), "Here to is missing"),
        ((PROMPT, *PLACED, "--mask", "mask.png"), "--box and --mask both say where the object is"),
        ((PROMPT, *PLACED, "--to", "1,x"), "box '1,x' must read"),
        ((PROMPT, *PLACED, "--tau", "2"), "tau=2.0 must be in [0, 1]"),
        (("--replay", "r.safetensors", "--tau", "0.5"), "--replay draws what the record says; leave out tau"),
        ((PROMPT, *PLACED, "--out", "a.txt"), "a.txt"),
    ],
)
def test_errors_are_one_line(
    model: str, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, "--model", model) == 2
    assert message in capsys.readouterr().err
