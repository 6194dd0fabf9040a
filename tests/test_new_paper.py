"""A paper is a folder: one that is put there is listed, shown, reproduced and in the navigation; no list is edited."""

import json
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from textwrap import dedent

import pytest
from typer.testing import CliRunner

import saccade.papers
from saccade.cli import app
from saccade.compare.arms import to_spec
from saccade.core.catalogue import comparison_arms, lookup, presets
from saccade.core.lazy import public_names

DOCS = Path(__file__).resolve().parents[1] / "docs"
FILES = {
    "__init__.py": '''
        """Attend as before (Throw-away).

        x -> anything
        """

        from typing import TYPE_CHECKING

        from saccade.core.catalogue import Entry, Offers, Paper, Preset
        from saccade.core.lazy import lazily

        if TYPE_CHECKING:
            from saccade.papers.throw_away.system import ThrowAway as ThrowAway

        PAPER = Paper(title="Throw-away", year=2026, arxiv="2601.00000", bibtex="@article{throw}", claims=("none",))
        OFFERS = Offers(
            entries=(
                Entry(name="throw_away", paper=PAPER, kind="x", seam="call", hosts=("grid",), make="system:ThrowAway"),
            ),
            presets={"throw-away": Preset(architecture="DiT", about="A DiT.")},
            comparison={"throw_away": "DiT()"},
        )
        __getattr__, __dir__ = lazily(__name__)
    ''',
    "system.py": '''
        """The system."""

        from dataclasses import dataclass


        @dataclass(frozen=True, kw_only=True)
        class ThrowAway:
            """Nothing.

            strength   of nothing
            """

            strength: float = 1.0
            name: str = "throw_away"

            def plan(self, site, clock):
                return ()
    ''',
    "experiment.py": '''
        """Its experiment."""

        from dataclasses import dataclass

        from saccade.experiments import ArmTable, Column, Experiment, above


        @dataclass(frozen=True, kw_only=True)
        class Settings:
            seeds: tuple[int, ...] = (0, 1, 2)


        CLAIMS = (above("a half is above a quarter", "runs.loss", 0.25),)
        EXPERIMENT = Experiment(
            name="throw_away", settings=Settings(), quick=Settings(), hours=0.0, claims=CLAIMS,
            sections={"arms": (ArmTable(columns=(Column(source="runs.loss", title="loss"),)),)},
        )


        @EXPERIMENT.part(per_seed=True)
        def runs(bench):
            yield {"arm": "dense", "loss": 0.5 + bench.seed / 100}
    ''',
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    paper = tmp_path / "papers" / "throw_away"
    paper.mkdir(parents=True)
    for name, text in FILES.items():
        (paper / name).write_text(dedent(text))
    monkeypatch.setattr(saccade.papers, "__path__", [*saccade.papers.__path__, str(paper.parent)])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("saccade.papers.throw_away")]:
        del sys.modules[name]
    vars(saccade.papers).pop("throw_away", None)
    public_names.cache_clear()


def output(*words: str) -> str:
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_it_is_listed_shown_and_importable(folder: Path) -> None:
    assert "throw_away" in [entry["name"] for entry in json.loads(output("list", "--json"))]
    shown = json.loads(output("show", "throw_away", "--json"))
    assert shown["options"][0]["about"] == "of nothing" and "x -> anything" in shown["symbols"]
    from saccade.papers import ThrowAway  # type: ignore[attr-defined]

    assert to_spec(ThrowAway(strength=2.0)) == "throw_away(strength=2.0)"
    assert lookup("throw_away").load() is ThrowAway


def test_its_recipe_and_its_arm_are_found(folder: Path) -> None:
    assert presets()["throw-away"].architecture == "DiT"
    assert comparison_arms()["throw_away"] == "DiT()"


def test_it_is_reproduced_and_its_page_filled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (page := folder / "docs" / "papers" / "throw_away.md").parent.mkdir(parents=True)
    page.write_text("# Throw-away\n\n<!-- figures: arms -->\n<!-- end -->\n")
    assert "throw_away" in output("reproduce")
    assert "confirmed" in output("reproduce", "throw_away", "--page")
    assert "| dense | 0.5100 |" in page.read_text() and "3 seeds" in page.read_text()
    assert len(list((folder / "docs" / "results" / "throw_away").glob("*.json"))) == 1


def test_a_page_is_made_of_all_parts(folder: Path) -> None:
    result = CliRunner().invoke(app, ["reproduce", "throw_away", "--page", "--only", "runs"])
    assert isinstance(result.exception, ValueError) and "--only leaves some out" in str(result.exception)


def test_its_page_is_in_the_navigation(folder: Path) -> None:
    (docs := folder / "site").mkdir()
    (docs / "papers").mkdir()
    (docs / "papers" / "throw_away.md").write_text("# Throw-away\n")
    spec = spec_from_file_location("navigation", DOCS / "navigation.py")
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(navigation := module_from_spec(spec))
    made = navigation.on_config({"docs_dir": str(docs), "nav": [{"Start": "index.md"}, {"Papers": "papers/"}]})
    assert made["nav"] == [{"Start": "index.md"}, {"Papers": [{"Throw-away": "papers/throw_away.md"}]}]
