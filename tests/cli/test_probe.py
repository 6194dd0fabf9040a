"""`saccade probe`, and `saccade edit --kind` with what it wrote."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import saccade
from saccade.analysis import LayerScores
from saccade.cli import main
from saccade.metrics.output import to_bytes
from saccade.papers.freeflux import KeepRegion, probe_layers
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
SMALL = ("--steps", "1", "--height", "32", "--width", "32")
TEXT, TARGET = "a red circle on white", "a red circle on black"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def test_scores_and_plot_are_those_of_the_function(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, plot = tmp_path / "a.json", tmp_path / "new" / "l.svg"
    words = ("probe", "--model", model, "-p", TEXT, "--seed", "3", "--cache", str(tmp_path), *SMALL)
    assert run(*words, "-o", "max_sequence_length=16", "--out", str(out), "--plot", str(plot), "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    call = {"num_inference_steps": 1, "height": 32, "width": 32, "max_sequence_length": 16}
    found = probe_layers(tiny_flux(), [TEXT], seeds=(3,), batch=8, cache=tmp_path / "other", **call)
    assert np.allclose(LayerScores.load(out).mse, found.mse)
    assert shown["position"] == [*found.sets().position] and shown["content"] == [*found.sets().content]
    assert shown["layers"] == pytest.approx(dict(zip(found.sites, found.closeness, strict=True)), rel=1e-4)
    assert "<svg" in plot.read_text()
    assert run(*words, "-o", "max_sequence_length=16") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "transformer_blocks.0.attn" in text and "position" in text and "unrotated" in text


def test_an_edit_by_layers_is_that_of_the_function(model: str, tmp_path: Path) -> None:
    out, mask = tmp_path / "a.png", np.full((32, 32), 255, np.uint8)
    mask[8:16, 8:16] = 0
    Image.fromarray(mask).save(tmp_path / "m.png")
    words = ("edit", TEXT, "-t", TARGET, "--model", model, "--out", str(out), *SMALL)
    assert run(*words, "--kind", "keep", "--by", "1,1", "--mask", str(tmp_path / "m.png")) == 0
    given = {"kind": KeepRegion(by=(1, 1)), "mask": mask > 127, "steps": 1, "height": 32, "width": 32}
    found = saccade.edit(tiny_flux(), source=TEXT, target=TARGET, **given)
    assert np.array_equal(np.asarray(Image.open(out)), to_bytes(found.after)[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--kind", "shrink"), "kind='shrink' must be one of add, reshape, keep"),
        (("--kind", "reshape", "--by", "1,0"), "by='1,0' moves what is kept; give --kind keep"),
        (("--kind", "keep", "--by", "one"), "by='one' must be ROWS,COLUMNS"),
        (("--by", "1,0"), "--by and --layers belong to an edit by layers; give --kind add, reshape or keep"),
        (("--kind", "reshape", "-t", TEXT), "kind='reshape' edits in one round; give one --target"),
        (("--kind", "reshape", "--layers", "none.json"), "layers='none.json' holds no scores of a probe"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(
    model: str, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run("edit", TEXT, "-t", TARGET, "--model", model, "--out", str(tmp_path / "a.png"), *SMALL, *words) == 2
    assert message in capsys.readouterr().err
