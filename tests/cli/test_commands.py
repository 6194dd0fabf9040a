"""The command line: what each command prints and writes, and how it fails."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import saccade
from saccade.cli import main
from saccade.cli.options import call_arguments
from saccade.cli.show import described
from saccade.core.catalogue import systems
from tests.tiny_flux import tiny_flux
from tests.train.tiny_video import MODEL as TINY_WAN

EXTRAS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
EXTRAS["dev"] += [line for lines in EXTRAS.values() for line in lines]
DECLARED = [f"{line}; extra == '{extra}'" for extra in sorted(EXTRAS) for line in EXTRAS[extra]]  # as wheels put it
SOURCE = str(Path(saccade.__file__).parents[1])
SMALL = ("--steps", "2", "--height", "32", "--width", "32", "--option", "max_sequence_length=24")


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def test_list_gives_every_system_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in shown] == list(systems())
    assert all({"name", "paper", "kind", "seam", "status", "hosts"} <= set(entry) for entry in shown)
    clear = next(entry for entry in shown if entry["name"] == "clear")
    assert clear["paper"].startswith("CLEAR") and "flux" in clear["hosts"] and clear["seam"] == "call"


def test_list_prints_a_table_and_keeps_to_a_seam(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("clear", "dense", "flashbias"))
    assert run("list", "--seam", "none", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in shown] == [n for n, entry in systems().items() if entry.seam == "none"]


@pytest.mark.parametrize("name", sorted(systems()))
def test_show_tells_all_of_every_system(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", name, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    paper = systems()[name].paper
    assert (shown["bibtex"], shown["claims"]) == (paper.bibtex, list(paper.claims))
    assert all(option["about"] for option in shown["options"]), "every option is explained in the class's docstring"
    assert run("show", name) == 0
    text = capsys.readouterr().out
    assert all(part in text for part in (paper.title, "Options", "Symbols", "Cite"))


def test_options_are_read_from_docstring_lines() -> None:
    doc = "Sum.\n\nradius   in tokens,\n         above 0\npool  side\n\nOther text."
    assert described(doc) == {"radius": "in tokens, above 0", "pool": "side"}


@pytest.mark.host
def test_generate_draws_the_picture_of_the_pipeline(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "a.png"
    words = ("generate", "a red circle", "--model", model, "--out", str(out), "--seed", "3", *SMALL)
    assert run(*words, "--system", "clear(radius=99)", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["path"] == str(out) and len(shown["report"]["sites"]) == 2
    noise = torch.Generator().manual_seed(3)
    plain = tiny_flux()(
        "a red circle", generator=noise, num_inference_steps=2, height=32, width=32, max_sequence_length=24
    )
    assert np.array_equal(np.asarray(Image.open(out)), np.asarray(plain.images[0]))


def test_a_bundled_model_is_called_at_its_own_size_unless_another_is_given() -> None:
    usual = call_arguments("scenes-flux", None, height=None, width=None)
    assert (usual["height"], usual["width"], usual["max_sequence_length"]) == (64, 64, 32)
    given = call_arguments("scenes-flux", ["max_sequence_length=48"], height=128, width=None)
    assert (given["height"], given["width"], given["max_sequence_length"]) == (128, 64, 48)
    assert call_arguments("elsewhere/model", None, height=None) == {}


@pytest.mark.host
def test_generate_writes_a_video_and_a_sheet_of_its_frames(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TINY_WAN.pipeline().save_pretrained(tmp_path / "wan")
    out, sheet = tmp_path / "a.png", tmp_path / "b.png"
    size = ("--steps", "1", "--height", "48", "--width", "48", "--frames", "9", "-o", "max_sequence_length=24")
    words = ("generate", "a red circle moving up", "--model", str(tmp_path / "wan"), *size)
    assert run(*words, "--out", str(out), "--sheet", str(sheet), "--json") == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(out)
    frames = np.asarray(Image.open(sheet))
    assert frames.shape == (52, 9 * 50 + 2, 3)
    with Image.open(out) as video:
        assert (video.n_frames, video.size) == (9, (48, 48))  # type: ignore[attr-defined]
        video.seek(8)
        assert np.array_equal(np.asarray(video.convert("RGB")), frames[2:50, -50:-2])


@pytest.mark.host
def test_explain_tells_sites_density_and_kernel_without_drawing(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("explain", "--model", model, *SMALL, "--system", "clear(radius=1.5, where=at(during=(0.5, 1.0)))")
    assert run(*words, "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    sites = ["transformer_blocks.0.attn", "single_transformer_blocks.0.attn"]
    assert [(e["site"], e["first"], e["last"]) for e in entries] == [(s, i, i) for s in sites for i in (0, 1)]
    before, after = entries[0], entries[1]
    assert (before["density"], before["kernel"], before["does"]) == (1.0, "host", [])
    pairs = 40**2 - 16**2 + 16 + 24 * 2 + 18 * 2  # a 4 x 4 grid: itself, 48 sideways, 36 across a corner
    assert after["density"] == pytest.approx(pairs / 40**2)
    assert after["kernel"] != "host" and "text 24 | image 16 (1x4x4)" in after["tokens"]
    assert run(*words) == 0
    assert "clear: Disc(radius=1.5)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.host
def test_compare_writes_report_and_data_and_prints_the_table(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.html"
    given = ("--prompts", "2", "--batch", "2", "--floor", "reference", "--output", str(out), *SMALL)
    words = ("compare", "--model", model, *given)
    assert run(*words, "-s", "clear:radius=1.5", "-s", "clear:radius=1.5 + flashbias") == 0
    text = capsys.readouterr().out
    assert str(out) in text and "clear:radius=1.5" in text
    stored = json.loads(out.with_suffix(".json").read_text())
    assert [arm["role"] for arm in stored["arms"]] == ["floor", "reference", "system", "system"]
    assert out.read_text().count("<img ") == 4 * 2 + 1  # and the enlarged one


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("show", "nothing"), "no system is named 'nothing'; there are adaspa, attencraft"),
        (("explain", "-s", "attencraft(learned='x')"), "learned='x' is no file of concepts; "),
        (("compare", "-s", "clear(radios=8)"), "'clear' has no option 'radios'"),
        (("compare", "--model", "/nowhere", "-p", "x"), "model='/nowhere' is neither a bundled model"),
        (("compare", "--prompts", "3", "-p", "x"), "prompts=3 draws captions of scenes; leave it out"),
        (("compare", "--model", "/nowhere"), "model='/nowhere' needs --prompt TEXT"),
        (("compare", "--steps", "0"), "steps=0 must be at least 1"),
        (("generate", "x", "--dtype", "int7"), "dtype='int7' must be one of float32, bfloat16, float16"),
        (("generate", "x", "--out", "x.tune"), "out='x.tune' ends in no picture format; name it .png"),
        (("generate", "x", "--sheet", "x.tune"), "sheet='x.tune' ends in no picture format; name it .png"),
        (("explain", "--option", "x"), "option 'x' must read name=value"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    output = capsys.readouterr().err
    assert output.startswith("saccade: ") and message in output and "Traceback" not in output


@pytest.mark.parametrize("words", [("generate", "x", "--out", "/proc/no/x.png"), ("compare", "--output", "/proc/no/x")])
def test_a_file_that_cannot_be_written_is_exit_code_1_before_anything_is_drawn(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, "--model", "scenes-flux") == 1
    assert capsys.readouterr().err.startswith("saccade: [Errno 2]")


def test_a_pipeline_folder_without_an_index_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "--model", str(tmp_path)) == 2
    assert "holds no model_index.json" in capsys.readouterr().err


def test_an_unknown_command_and_option_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("paint") == 2
    assert run("list", "--colour") == 2
    assert "No such command 'paint'" in capsys.readouterr().err


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(ValueError, match="no system is named 'nothing'"):
        main(("--debug", "show", "nothing"))


def test_help_lists_every_command_without_loading_torch() -> None:
    code = "\n".join(
        (
            "import sys",
            "from saccade.cli import main",
            "try: main(['--help'])",
            "except SystemExit: assert 'torch' not in sys.modules",
        )
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100", "PYTHONPATH": SOURCE},
    )
    assert result.returncode == 0, result.stderr
    for command in (
        "list",
        "show",
        "generate",
        "edit",
        "compose",
        "insert",
        "multi_prompt",
        "explain",
        "compare",
        "score",
        "bench",
        "train",
    ):
        assert f" {command} " in result.stdout


@pytest.mark.parametrize(
    ("library", "extra"),
    [
        ("diffusers", "diffusers"),
        ("transformers", "transformers"),
        ("accelerate", "train"),
        ("pyarrow", "data"),
        ("multimatch_gaze", "gaze"),
        ("sklearn", "retrieval"),
    ],  # fmt: skip
)
def test_a_library_that_is_not_installed_is_named_with_the_extra_that_brings_it(
    library: str, extra: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.cli.requires", lambda name: DECLARED)
    monkeypatch.setattr("saccade.cli.app", _without(library))
    assert run("generate", "a red circle") == 1
    assert capsys.readouterr().err == f"saccade: this needs {library}: pip install 'saccade[{extra}]'\n"


def test_without_metadata_the_message_is_the_interpreters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.cli.requires", lambda name: requires("no-such-distribution"))
    monkeypatch.setattr("saccade.cli.app", _without("diffusers"))
    assert run("generate", "a red circle") == 1
    assert capsys.readouterr().err == "saccade: No module named 'diffusers'\n"


def test_a_module_that_no_extra_brings_keeps_its_own_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saccade.cli.app", _without("diffusers.pipelines.of_tomorrow"))
    assert run("generate", "a red circle") == 1
    assert capsys.readouterr().err == "saccade: No module named 'diffusers.pipelines.of_tomorrow'\n"


def _without(library: str) -> Callable[..., None]:
    def app(**_: object) -> None:
        raise ModuleNotFoundError(f"No module named '{library}'", name=library)

    return app


def test_bench_lists_its_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("bench", "--help") == 0
    text = capsys.readouterr().out
    assert all(f" {name} " in text for name in ("architectures", "kernels", "overhead"))


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("saccade 0.")
