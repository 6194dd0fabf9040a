"""`saccade insert`: the pictures, sheets and records it writes, and how it fails."""

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
from tests.test_insert import OWN, PLACE, PROMPT, SUBJECT, TARGET
from tests.tiny_fill import tiny_fill
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
SMALL = ("--steps", "1", "--prompt", PROMPT)
ASKED: dict[str, Any] = {"subject": SUBJECT, "into": TARGET, "prompt": PROMPT, "steps": 1}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, picture in (("subject", SUBJECT), ("into", TARGET), ("own", OWN), ("place", PLACE > 0)):
        Image.fromarray(picture if picture.dtype == np.uint8 else 255 * picture.astype(np.uint8)).save(f"{name}.png")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(("insert", *words))
    return int(stop.value.code or 0)


def test_the_pictures_are_those_of_the_function_and_a_record_draws_them_again(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--seed", "3", "--seed", "4", "--beta", "0.5", "--system", "clear(radius=2)", "--box", "4,8,20,24")
    files = ("--out", "new/a.png", "--record", "r.safetensors", "--sheet", "s.html")
    assert run("subject.png", "into.png", *SMALL, *options, *files, "--model", model, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    found = saccade.insert(tiny_flux(), **ASKED, mask=PLACE, seeds=(3, 4), beta=0.5, systems=[Clear(radius=2)])
    assert shown["paths"] == [str(tmp_path / "new" / f"a-{seed}.png") for seed in (3, 4)]
    for path, picture in zip(
        shown["paths"], to_bytes(found.pictures), strict=True
    ):  # weights of a file round otherwise
        assert np.abs(np.asarray(Image.open(path)).astype(int) - picture).max() <= 1
    assert Path("s.html").read_text().count("<img ") == 6 and shown["density"] == pytest.approx(found.density)
    assert run("--replay", "r.safetensors", "--model", model, "--out", "b.png", "--json") == 0
    assert json.loads(capsys.readouterr().out)["digests"] == shown["digests"]


def test_masks_are_files_and_a_fill_pipeline_needs_no_blending(capsys: pytest.CaptureFixture[str]) -> None:
    tiny_fill().save_pretrained("fill")
    masks = ("--mask", "place.png", "--subject-mask", "own.png", "--no-blend", "--compat", "official")
    assert run("subject.png", "into.png", *SMALL, *masks, "--model", "fill", "--out", "a.png") == 0
    assert "a.png in" in capsys.readouterr().out
    found = saccade.insert(tiny_fill(), **ASKED, mask=PLACE, subject_mask=OWN, blend=False, compat="official")
    assert np.array_equal(np.asarray(Image.open("a.png")), to_bytes(found.pictures)[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Here subject, into, prompt, mask are missing"),
        (("subject.png", "into.png", "--box", "0,0,9,9"), "Here prompt is missing"),
        (("--replay", "r", "--seed", "1", "--beta", "0"), "leave out beta, seeds"),
        (("subject.png", "into.png", "--box", "0,0,x,1"), "box '0,0,x,1' must read x0,y0,x1,y1"),
        (("subject.png", "into.png", "--box", "0,0,9,9", "--mask", "place.png"), "--mask and --box both say"),
        (("no.png", "into.png"), "subject='no.png' is missing"),
        (("subject.png", "into.png", "--out", "x.tune"), "out='x.tune' ends in no picture format"),
        (("subject.png", "into.png", "--system", "cleer"), "no system is named 'cleer'"),
    ],
)
def test_what_cannot_be_is_one_line(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*words) == 2
    assert message in capsys.readouterr().err
