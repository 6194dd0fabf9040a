"""`saccade multi_prompt`: the videos, sheets and records it writes, and how it fails."""

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
from saccade.papers.ditctrl import DiTCtrl
from tests.tiny_videos import SIZES, tiny_wan

pytestmark = pytest.mark.host
PROMPTS = ("a red circle moving right", "a blue circle moving right")
SMALL = tuple(f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items())


@pytest.fixture(scope="module")
def video_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("wan")
    tiny_wan().save_pretrained(folder)
    return str(folder)


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(("multi_prompt", *words))
    return int(stop.value.code or 0)


def test_the_videos_are_those_of_the_function_and_a_record_draws_them_again(
    video_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, record, sheet = tmp_path / "new" / "a.png", tmp_path / "r.safetensors", tmp_path / "s.html"
    options = ("--seed", "3", "--seed", "4", "--word", "circle", "--guidance", "4", "--system", "clear(radius=2)")
    shared = ("--sharing", "ditctrl(deepest=1.0)", "--schedule", "rising")
    files = ("--out", str(out), "--record", str(record), "--sheet", str(sheet))
    assert run(*PROMPTS, *options, *shared, *files, *SMALL, "--model", video_model, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    found = saccade.multi_prompt(
        tiny_wan(), PROMPTS, seeds=(3, 4), word="circle", guidance=4.0, schedule="rising", systems=[Clear(radius=2)],
        sharing=DiTCtrl(deepest=1.0), **SIZES,
    )  # fmt: skip
    assert shown["paths"] == [str(out.with_stem(f"a-{seed}")) for seed in (3, 4)]
    assert shown["segments"] == [[0, 7], [7, 13]] and shown["digests"] == list(found.record.digests)
    for path, frames in zip(shown["paths"], found.videos, strict=True):
        with Image.open(path) as video:
            assert video.n_frames == len(frames)  # type: ignore[attr-defined]
            video.seek(len(frames) - 1)
            assert np.array_equal(np.asarray(video.convert("RGB")), to_bytes(frames)[-1])
    assert sheet.read_text().count("<img ") == 24
    assert run("--replay", str(record), "--model", video_model, "--out", str(tmp_path / "b.png")) == 0
    assert "13 frames, 3 windows, in" in " ".join(capsys.readouterr().out.split())
    again: Any = run("--replay", str(record), "--model", video_model, "--out", str(tmp_path / "b.png"), "--json")
    assert again == 0 and json.loads(capsys.readouterr().out)["digests"] == shown["digests"]


def test_arms_of_a_comparison(video_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", str(tmp_path / "a.webp"), "--model", video_model, *SMALL)
    for words, frames in ((("--sharing", "none"), 13), (("--isolated",), 10), (("--negative", "a blue square"), 13)):
        assert run(*PROMPTS, *words, *out) == 0
        assert f"a.webp: {frames} frames" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give PROMPTS of the video, or --replay with a record of one"),
        (("a", "--replay", "r"), "give PROMPTS of the video, or --replay"),
        (("--replay", "r", "--model", "m", "--seed", "1", "--isolated"), "leave out isolated, seeds"),
        (("a", "b", "--model", "m", "--sharing", "clear(radius=2)"), "must be ditctrl with its options, or none"),
        (("a", "b", "--out", "x.tune"), "out='x.tune' ends in no picture format"),
        (("a", "b", "--model", "m", "--system", "cleer"), "no system is named 'cleer'"),
        (("a", "b", "--model", "/nowhere"), "model='/nowhere' is neither a bundled model"),
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
