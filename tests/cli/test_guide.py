"""`saccade guide` and the function behind it: pictures it writes, and how it fails."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import saccade
from saccade.cli import main
from saccade.metrics.output import to_bytes
from saccade.papers.clear import Clear
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
PROMPT = "a red circle left of a blue square"
SMALL = ("--steps", "2", "--height", "32", "--width", "32", "--option", "max_sequence_length=24")
SIZES = {"steps": 2, "height": 32, "width": 32, "options": {"max_sequence_length": 24}}


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(("guide", *words))
    return int(stop.value.code or 0)


def test_the_picture_is_that_of_the_function(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = tmp_path / "new" / "a.png", tmp_path / "s.png"
    words = ("--head", "0.1", "--layer", "1", "--w", "1", "--w", "4", "--u", "0.5", "--kind", "uniform", "--seed", "3")
    assert run(PROMPT, *words, "--model", model, "--out", str(out), "--sheet", str(sheet), *SMALL, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    pipe = tiny_flux()
    made = saccade.guide(pipe, PROMPT, heads=((0, 1),), layers=(1,), w=(1, 4), u=0.5, kind="uniform", seed=3, **SIZES)
    assert np.array_equal(np.asarray(Image.open(out)), to_bytes(made.guided[4.0])[0])
    assert [one["w"] for one in shown["runs"]] == [1.0, 4.0] and shown["sheet"] == str(sheet)
    assert list(made.panels()) == ["plain", "w = 1", "w = 4"]
    assert not np.array_equal(made.plain, made.guided[1.0]) and made.systems[4.0].w == 4
    with Image.open(sheet) as drawn:
        assert drawn.size[0] > 2 * drawn.size[1]  # three pictures
    unsteered = saccade.guide(pipe, PROMPT, layers=(1,), w=0.0, seed=3, **SIZES)
    assert np.array_equal(unsteered.guided[0.0], unsteered.plain) and np.array_equal(unsteered.plain, made.plain)


def test_another_system_runs_beside_both_pictures(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, beside = (
        saccade.guide(tiny_flux(), PROMPT, layers=(1,), w=2, seed=3, systems=systems, **SIZES)
        for systems in ((), (Clear(radius=1),))
    )
    assert not np.array_equal(alone.plain, beside.plain)
    out = tmp_path / "a.png"
    words = ("--layer", "1", "--w", "2", "--seed", "3", "--system", "clear(radius=1)", "--model", model, *SMALL)
    assert run(PROMPT, *words, "--out", str(out)) == 0
    assert np.array_equal(np.asarray(Image.open(out)), to_bytes(beside.guided[2.0])[0])


def test_a_record_is_drawn_again(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, record = tmp_path / "a.png", tmp_path / "r.safetensors"
    words = ("--head", "0.1", "--w", "2", "--seed", "3", "--system", "clear(radius=1)", *SMALL)
    assert run(PROMPT, *words, "--model", model, "--out", str(out), "--record", str(record), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["record"] == str(record) and len(shown["digests"]) == 2
    again = ("--replay", str(record), "--model", model, "--out", str(tmp_path / "b.png"))
    assert run(*again, "--json") == 0
    assert json.loads(capsys.readouterr().out)["digests"] == shown["digests"]
    assert (tmp_path / "b.png").read_bytes() == out.read_bytes()
    assert run(*again, "--record", str(tmp_path / "c.safetensors")) == 0
    assert "c.safetensors" in capsys.readouterr().out and (tmp_path / "c.safetensors").exists()


@pytest.mark.bad_input
def test_what_cannot_be_is_one_line(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--model", model, "--out", str(tmp_path / "a.png"), *SMALL)
    assert run(PROMPT, *out) == 2
    assert "leave nothing to weaken; give (layer, head) pairs, or layers" in capsys.readouterr().err
    assert run(PROMPT, "--head", "3", *out) == 2
    assert "head='3' must be LAYER.HEAD" in capsys.readouterr().err
    assert run(PROMPT, "--head", "7.0", *out) == 2
    assert "weakens (7, 0), which is not attached; there are layers 0 to 1" in capsys.readouterr().err
    assert run(PROMPT, "--layer", "0", "--kind", "blur", *out) == 2
    assert "kind='blur' must be one of" in capsys.readouterr().err
    assert run(*out[:4]) == 2
    assert "give a PROMPT to draw, or --replay with a record of one" in capsys.readouterr().err
    assert run("--replay", "r", "--layer", "0", *out) == 2
    assert "leave out layers, num_inference_steps, height, width, option" in capsys.readouterr().err
    assert run("--replay", "r", *out[:4]) == 2
    assert "record='r' is no record of guide" in capsys.readouterr().err
