"""Every declared experiment runs, and every page says what its results say."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from saccade.cli.reproduce import Options, run
from saccade.core.catalogue import experiments, papers
from saccade.experiments.page import fill
from saccade.experiments.results import newest
from saccade.ui.markdown import FIGURES

DOCS = Path(__file__).resolve().parents[1] / "docs"
NAMES = tuple(experiments())
RESULTS_LIMIT = 800 * 1024  # bytes of all results together


def declared(name: str) -> Any:
    return import_module(experiments()[name]).EXPERIMENT


def test_every_paper_declares_its_experiment() -> None:
    assert {*papers()} <= {*NAMES}
    assert [name for name in NAMES if declared(name).name != name] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_quick_run_gives_rows_verdicts_and_a_page(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run(declared(name), Options(only=(), quick=True, page=False, work=tmp_path, docs=DOCS))
    assert all(found.tables.values())
    assert {claim.verdict(found) for claim in declared(name).claims} <= {"confirmed", "refuted", "undecided"}
    assert list(tmp_path.iterdir()) == []  # a quick run leaves nothing behind


@pytest.mark.parametrize("name", NAMES)
def test_the_page_is_what_the_kept_results_make_of_it(name: str, tmp_path: Path) -> None:
    experiment = declared(name)
    page = DOCS / experiment.page
    copy = tmp_path / page.name
    copy.write_text(page.read_text())
    if experiment.parts and not (DOCS / "results" / name).exists():
        pytest.skip(f"'{name}' was never run in full; its page says so")
    found = newest(DOCS / "results", name) if experiment.parts else experiment.run(tmp_path / "work")
    fill(copy, name, experiment.sections, found)
    assert copy.read_text() == page.read_text()
    assert [drawn.name for drawn in tmp_path.glob("*.svg") if not (page.parent / drawn.name).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_section_of_a_page_is_filled_by_one_experiment(name: str) -> None:
    page = declared(name).page
    marks = FIGURES.findall((DOCS / page).read_text())
    filling = [declared(other) for other in NAMES if declared(other).page == page]
    assert sorted(marks) == sorted(section for experiment in filling for section in experiment.sections)


def test_all_results_together_are_small() -> None:
    assert sum(path.stat().st_size for path in (DOCS / "results").rglob("*") if path.is_file()) < RESULTS_LIMIT
