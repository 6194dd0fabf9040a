"""`saccade compose`: the pictures, sheets and records it writes, and how it fails."""

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
from tests.hosts.test_references import kontext
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
TEXTS = ("a red circle", "a blue square")
PLACES = ("--box", "0,0,0.5,1", "--box", "16,0,32,32")
SMALL = ("--steps", "2", "--height", "32", "--width", "32")
SIZES: dict[str, Any] = {"steps": 2, "height": 32, "width": 32}


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(("compose", *words))
    return int(stop.value.code or 0)


def test_the_pictures_are_those_of_the_function_and_a_record_draws_them_again(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, record, sheet = tmp_path / "new" / "a.png", tmp_path / "r.safetensors", tmp_path / "s.html"
    options = ("--seed", "3", "--seed", "4", "--first-stage", "0.5", "--apart", "0:1", "--system", "clear(radius=2)")
    files = ("--out", str(out), "--record", str(record), "--sheet", str(sheet))
    assert run(*TEXTS, *PLACES, *options, *files, *SMALL, "--model", model, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    found = saccade.compose(
        tiny_flux(), texts=TEXTS, boxes=((0.0, 0.0, 0.5, 1.0), (16, 0, 32, 32)), seeds=(3, 4), first_stage=0.5,
        apart={0: (1,)}, systems=[Clear(radius=2)], **SIZES,
    )  # fmt: skip
    assert shown["paths"] == [str(out.with_stem(f"a-{seed}")) for seed in (3, 4)]
    for path, picture in zip(shown["paths"], to_bytes(found.pictures), strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), picture)
    assert len(set(shown["digests"])) == 2 and shown["density"] == pytest.approx(found.density)
    assert sheet.read_text().count("<img ") == 4
    assert run("--replay", str(record), "--model", model, "--out", str(tmp_path / "b.png"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["digests"] == shown["digests"]


def test_references_and_masks_are_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kontext().save_pretrained(tmp_path / "kontext")
    picture, mask = (np.random.default_rng(i).integers(0, 256, (32, 32, 3), dtype=np.uint8) for i in range(2))
    mask[:, :16], mask[:, 16:] = 0, 255
    Image.fromarray(picture).save(tmp_path / "p.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    given = ("--reference", str(tmp_path / "p.png"), "-r", "-", "--mask", "-", "--mask", str(tmp_path / "m.png"))
    out = tmp_path / "a.png"
    assert run(*TEXTS, *given, *SMALL, "--model", str(tmp_path / "kontext"), "--out", str(out), "--seed", "1") == 0
    assert "a.png in" in capsys.readouterr().out
    found = saccade.compose(
        kontext(), texts=TEXTS, references=(picture, None), masks=(None, mask[..., 0] / 255), seeds=1, **SIZES
    )
    assert np.array_equal(np.asarray(Image.open(out)), to_bytes(found.pictures)[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give TEXTS to compose, or --replay with a record of one"),
        (("a", "--replay", "r"), "give TEXTS to compose, or --replay"),
        (("--replay", "r", "--seed", "1", "--box", "0,0,1,1"), "leave out boxes, seeds"),
        (("a", "--box", "0,0,x,1"), "box '0,0,x,1' must read x0,y0,x1,y1"),
        (("a", "--apart", "0-1"), "apart '0-1' must read NUMBER:NUMBER"),
        (("a", "--reference", "/no/p.png"), "reference='/no/p.png' is missing"),
        (("a", "--out", "x.tune"), "out='x.tune' ends in no picture format"),
        (("a", "--system", "cleer"), "no system is named 'cleer'"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert message in capsys.readouterr().err
