"""Options that cannot be are one line and exit code 2, said before anything is loaded."""

from pathlib import Path

import pytest
import torch

from saccade.cli import main

pytestmark = pytest.mark.bad_input
DRAW = ("generate", "a red circle")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise AssertionError("a pipeline was loaded before the options were checked")

    monkeypatch.setattr("saccade.pipelines.loading.load_pipeline", refuse)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((*DRAW, "--device", "foo"), "device='foo' is no device of torch; name it cpu, cuda, cuda:1 ..."),
        ((*DRAW, "--device", "meta"), "device='meta' holds no numbers; use device=cpu"),
        ((*DRAW, "--steps", "0"), "steps=0 must be at least 1"),
        ((*DRAW, "--height", "0"), "height=0 must be at least 1"),
        ((*DRAW, "--width", "-64"), "width=-64 must be at least 1"),
        ((*DRAW, "--frames", "0"), "frames=0 must be at least 1"),
        ((*DRAW, "-o", "foo=1"), "option 'foo' is no argument of FluxPipeline, which takes prompt, "),
        ((*DRAW, "-o", "num_images_per_prompt=2"), "num_images_per_prompt=2 must be 1, since one file is written"),
        ((*DRAW, "-o", "foo"), "option 'foo' must read name=value"),
        (("compare", "-o", "foo=1", "--prompts", "1"), "option 'foo' is no argument of FluxPipeline"),
        (("compare", "--prompts", "0"), "prompts=0 must be at least 1"),
        (("compare", "--prompts", "1", "--output", "x.pdf"), "output='x.pdf' is the report, a page; name it .html"),
        (("bench", "kernels", "--heads", "0"), "heads=0 must be at least 1"),
        (("bench", "systems", "--tokens", "64", "--tokens", "0"), "tokens=0 must be at least 1"),
        (("train", "dit", "--out", "x", "--threads", "0"), "threads=0 must be at least 1"),
        (("list", "--seam", "x"), "seam='x' is none; choose one of call, block, run, model, none"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*words) == 2
    assert capsys.readouterr().err.startswith(f"saccade: {message}")
    assert not [*tmp_path.iterdir()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*DRAW, "--device", "cuda") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("saccade: device='cuda' is not there (") and "use device=cpu" in shown


def test_list_names_the_families_of_each_system(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--hosts") == 0
    shown = " ".join(capsys.readouterr().out.split())
    own = shown[shown.index(" attencraft ") : shown.index(" clear ")]
    assert own.startswith(" attencraft flux, sd3, pixart") and " unet," in shown and "every image" not in shown
