"""The documentation does what it shows: its python runs, its commands exist, its pictures and links are there."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from saccade.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"(?P<note><!-- skip: [^>]*-->\n)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")


@dataclass(frozen=True, kw_only=True)
class Example:
    page: Path
    line: int
    language: str
    code: str
    skipped: bool


def _examples(page: Path) -> list[Example]:
    text = page.read_text()
    return [
        Example(
            page=page,
            line=text[: match.start("code")].count("\n"),
            language=match["language"],
            code=match["code"],
            skipped=match["note"] is not None,
        )
        for match in FENCE.finditer(text)
    ]


def _id(page: Path) -> str:
    return str(page.relative_to(ROOT))


RUNNABLE = {page: [e for e in _examples(page) if e.language == "python" and not e.skipped] for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if RUNNABLE[page]], ids=_id)
def test_examples_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__example__"}
    for example in RUNNABLE[page]:
        padded = "\n" * example.line + example.code  # so that a traceback names the line of the page
        exec(compile(padded, str(page), "exec"), names)
    assert len(names) > 2  # the examples defined something


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    shown = {word for e in _examples(page) if e.language == "bash" for word in re.findall(r"\bmake ([\w-]+)", e.code)}
    assert shown - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_commands_and_their_options_exist(page: Path) -> None:
    lines = [line for e in _examples(page) if e.language == "bash" for line in e.code.splitlines()]
    shown = [shlex.split(line, comments=True)[1:] for line in lines if re.match(r"(\.venv/bin/)?saccade\b", line)]
    for words in shown:
        assert {word for word in words if word.startswith("--")} <= _options_of(words), " ".join(words)


def _options_of(words: list[str]) -> set[str]:
    """Every option of the command that the words begin with."""
    command, rest = typer.main.get_command(app), iter(words)
    while hasattr(command, "get_command"):
        name = next(rest)
        command = command.get_command(None, name)
        assert command is not None, f"there is no command '{name}' in: {' '.join(words)}"
    return {option for parameter in command.params for option in parameter.opts}


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


def test_the_readme_shows_runnable_code() -> None:
    assert RUNNABLE[ROOT / "README.md"]
