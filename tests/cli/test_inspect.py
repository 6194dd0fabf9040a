"""`saccade inspect` and the function behind it: the page, the arrays, the picture unchanged, and how it fails."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import saccade
from saccade.cli import main
from saccade.compare.arms import Setup, Visit
from saccade.compare.verb import draw
from saccade.core.site import Where
from saccade.inspect import Inspection, overlay
from saccade.inspect.pictures import scaled
from saccade.inspect.plots import head_table
from saccade.papers.clear import Clear
from saccade.studies.speed.recording import ARMS, measure
from saccade.systems import Dense
from tests.tiny_flux import tiny_flux
from tests.ui.browser import chromium, open_page

pytestmark = pytest.mark.host
PROMPT = "a red circle left of a blue square"
OPTIONS = {"max_sequence_length": 24}
SMALL = ("--steps", "2", "--height", "32", "--width", "32", "--option", "max_sequence_length=24")


@pytest.fixture(scope="module")
def found() -> Inspection:
    return saccade.inspect(
        tiny_flux(), PROMPT, words=["circle", "blue square"], steps=2, height=32, width=32, seed=3, options=OPTIONS
    )


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(("inspect", *words))
    return int(stop.value.code or 0)


def test_the_picture_is_the_one_drawn_without_looking(found: Inspection) -> None:
    setup = Setup(steps=2, height=32, width=32, options=OPTIONS)
    pipe = tiny_flux()
    with saccade.attach(pipe, Dense(kernel="sdpa")):
        (plain,) = draw(pipe, (PROMPT,), Visit(jobs=((0, 3),), first=True), setup)
    np.testing.assert_array_equal(found.picture, plain)
    assert found.record.steps == (0, 1)


def test_the_page_shows_every_word_step_and_site(found: Inspection, tmp_path: Path) -> None:
    text = found.write_page(tmp_path / "new" / "page.html").read_text()
    sites = [site.site.name for site in found.record.sites]
    assert all(name in text for name in (*sites, PROMPT, "blue square", "step 1", "Keys that draw most"))
    pictures = 1 + 3 * (2 + 1) + 2 * len(sites)  # two words and what is looked at, each of all steps and of two
    assert text.count('class="frame"') == pictures
    assert text.count('<svg class="plot"') + text.count('class="plot"') > 0
    assert not re.search(r'(src|href)="https?:', text)


@pytest.mark.skipif(chromium() is None, reason="no Chromium is installed")
def test_a_browser_shows_the_page_without_complaint(found: Inspection, tmp_path: Path) -> None:
    opened = open_page(chromium() or "", found.write_page(tmp_path / "page.html"), tmp_path / "profile")
    assert not opened.console
    assert 'data-pictures="' in opened.dom and 'id="broken" hidden' in opened.dom


def test_the_command_writes_page_sheet_and_arrays(
    model: str, found: Inspection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        name: tmp_path / "new" / f"a{end}" for name, end in (("out", ".html"), ("sheet", ".png"), ("arrays", ".npz"))
    }
    words = ("--word", "circle", "--word", "blue square", "--seed", "3", "--each-head")
    named = [part for name, path in files.items() for part in (f"--{name}", str(path))]
    assert run(PROMPT, *words, *named, "--model", model, *SMALL, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert [shown["page"], shown["sheet"], shown["arrays"]] == [str(path) for path in files.values()]
    assert shown["words"] == ["circle", "blue square"] and shown["steps"] == [0, 1]
    assert [row["role"] for row in shown["heads"]] == [row["role"] for row in found.record.heads()]
    stored = np.load(files["arrays"])["transformer_blocks.0.attn/words"]
    heads = found.record.sites[0].site.heads
    assert stored.shape[:4] == (2, 2, 1, heads)
    np.testing.assert_allclose(stored.mean(3), found.record.sites[0].values["words"][:, :, :, 0], atol=1e-6)


def test_sites_and_steps_can_be_chosen(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", str(tmp_path / "a.html"), "--model", model, *SMALL)
    assert run(PROMPT, "--site", "single*", "--during", "0.5,1", "--system", "clear(radius=1)", *out) == 0
    assert "1 steps; heads" in capsys.readouterr().out
    assert run(PROMPT, "--site", "nowhere*", *out) == 2
    assert "matches no attached site" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (("--word", "cat"), "word='cat' is not in the prompt"),
        (("--during", "a"), "during='a' must be FROM,TO, shares of the steps, as 0.2,0.5"),
        (("--during", "0.5,0.2"), "during=(0.5, 0.2) must be a rising pair"),
        (("--queries", "0"), "leave nothing to record"),
        (("--out", "a.png"), "out='a.png' must end in .html"),
        (("--arrays", "a.txt"), "arrays='a.txt' must end in .npz"),
        (("--sheet", "a.txt"), "sheet='a.txt' ends in no picture format"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_drawn(
    model: str, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(PROMPT, "--model", model, *SMALL, *words) == 2
    assert said in capsys.readouterr().err


def test_words_are_a_list() -> None:
    with pytest.raises(ValueError, match=r"words='circle' is one text; give a list of words, as words=\['circle'\]"):
        saccade.inspect(tiny_flux(), PROMPT, words="circle")


def test_positions_say_words_of_pipelines_without_known_tokenizers() -> None:
    given = {"steps": 1, "height": 32, "width": 32, "options": OPTIONS}
    found = saccade.inspect(tiny_flux(), PROMPT, words={"third": (2,)}, queries=0, systems=(Clear(radius=1),), **given)
    assert found.record.words == ("third",) and not found.record.heads()
    assert found.record.looked_at() is None and head_table(found.record, "spread").size == 0
    assert list(found.panels()) == ["picture", "third"]


def test_progress_reports_steps_and_where_is_checked() -> None:
    reported: list[tuple[int, int, str]] = []
    given = {"steps": 2, "height": 32, "width": 32, "options": OPTIONS}
    saccade.inspect(tiny_flux(), PROMPT, progress=lambda *said: reported.append(said), **given)
    assert reported == [(1, 2, "draw"), (2, 2, "draw")]
    with pytest.raises(saccade.SaccadeError, match="matches no attached site"):
        saccade.inspect(tiny_flux(), PROMPT, where=Where(pattern="x"), **given)


def test_a_map_covers_the_picture_where_it_is_hot() -> None:
    heat = np.zeros((2, 2, 2))
    heat[1, 0, 0] = 5
    picture = np.ones((4, 8, 8, 3), np.float32)
    assert (scaled(heat, (4, 8, 8))[:2] == 0).all() and scaled(heat, (4, 8, 8))[2:, 0, 0].min() == 1
    drawn = overlay(picture, heat)
    assert (
        np.array_equal(drawn[:2], picture[:2]) and drawn[2, 0, 0].max() < 1 and np.array_equal(drawn[3, 7, 7], [1] * 3)
    )


def test_the_bench_pairs_every_arm_with_the_unwatched_step() -> None:
    small = {"text": 8, "height": 4, "width": 4, "heads": 1, "channels": 16, "layers": 1, "singles": 1}
    rows = measure(2, small)
    assert [row.arm for row in rows] == list(ARMS) and rows[0].ratio == rows[0].ratio_low == 1
    assert all(row.ratio_low <= row.ratio <= row.ratio_high for row in rows)
    with pytest.raises(ValueError, match="repeats=1 must be at least 2"):
        measure(1, small)
