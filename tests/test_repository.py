"""The repository's own files say what is so: workflows, issue forms, badges, the sdist and the page on versions."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([\w-]+):(?!=)", MAKEFILE, re.M)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PYTHONS = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", text)]
PATHS = ("cache-dependency-path", "path")  # inputs of actions that name files of ours


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def _jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in _read(path)["jobs"].items():
            yield f"{path.name}: {name}", job


def _steps() -> Iterator[dict[str, Any]]:
    return chain.from_iterable(job.get("steps", ()) for _, job in _jobs())


def test_every_target_is_defined_once() -> None:
    assert sorted(TARGETS) == sorted(set(TARGETS))


def test_workflows_run_targets_of_the_makefile_and_nothing_else() -> None:
    commands = [step["run"] for step in _steps() if "run" in step]
    assert {"test", "test-slow", "lint", "types", "contracts", "docs", "package", "check-tag"} == {
        target for command in commands for target in command.removeprefix("make ").split()
    }
    assert [command for command in commands if not command.startswith("make ")] == []
    assert [command for command in commands if not set(command.split()[1:]) <= set(TARGETS)] == []


def test_paths_in_workflows_are_there_or_are_built() -> None:
    named = [step["with"][key] for step in _steps() for key in PATHS if key in step.get("with", {})]
    named += [job["uses"] for _, job in _jobs() if "uses" in job]
    built = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split() if line.startswith("/")]
    assert [path for path in named if path.strip("/") not in built and not (ROOT / path).exists()] == []
    assert named


def test_actions_are_pinned_by_major_version() -> None:
    used = {step["uses"] for step in _steps() if "uses" in step}
    assert [action for action in used if not re.search(r"@(v\d+|release/v\d+)$", action)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_may_only_read_and_never_pile_up(path: Path) -> None:
    workflow = _read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert "concurrency" in workflow


def test_one_job_may_publish_and_every_job_ends() -> None:
    jobs = dict(_jobs())
    assert {name: job["permissions"] for name, job in jobs.items() if "permissions" in job} == {
        "release.yml: publish": {"id-token": "write"}
    }
    assert [name for name, job in jobs.items() if "uses" not in job and "timeout-minutes" not in job] == []


def test_every_job_that_is_waited_for_exists() -> None:
    for path in WORKFLOWS:
        jobs = _read(path)["jobs"]
        assert {job["needs"] for job in jobs.values() if "needs" in job} <= set(jobs)


def test_ci_runs_the_oldest_and_the_newest_python_we_declare() -> None:
    matrices = [job["strategy"]["matrix"] for _, job in _jobs() if "strategy" in job]
    tested = {row["python"] for matrix in matrices for row in matrix.get("include", ())}
    assert tested == {PYTHONS[0], PYTHONS[-1]}
    assert all(set(matrix["python"]) == tested for matrix in matrices if "python" in matrix)
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_are_complete(path: Path) -> None:
    form = _read(path)
    assert {"name", "description", "body"} <= set(form)
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert {field["type"] for field in fields} <= {"input", "textarea", "dropdown", "checkboxes"}
    assert len({field["id"] for field in fields}) == len(fields)
    assert all(field["attributes"]["label"] for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


@pytest.mark.parametrize("name", ["dependabot.yml", "ISSUE_TEMPLATE/config.yml"])
def test_settings_of_the_repository_parse(name: str) -> None:
    assert _read(ROOT / ".github" / name)


def test_badges_say_what_is_declared() -> None:
    badges = re.findall(r"^\[!\[(\w+): ([^\]]+)\]\(https://img\.shields\.io/badge/([^)]+)-blue\)", _readme(), re.M)
    assert {name: text for name, text, _ in badges} == {"License": PROJECT["license"], "Python": " | ".join(PYTHONS)}
    for name, text, address in badges:
        assert address == f"{name.lower()}-{text.replace('-', '--').replace(' ', '%20').replace('|', '%7C')}"


def _readme() -> str:
    return (ROOT / "README.md").read_text()


def test_the_sdist_holds_all_that_git_tracks() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository: this is an sdist itself")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = {f"/{path.partition('/')[0]}" for path in listed.splitlines()}
    automatic = {"/.gitignore", "/LICENSE", "/pyproject.toml"}  # hatchling adds them
    patterns = PYPROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    missed = {path for path in tracked if not any(fnmatch(path, pattern) for pattern in patterns)}
    assert missed == automatic


def test_the_page_on_versions_gives_the_ranges_and_the_pins() -> None:
    page = (ROOT / "docs/stability.md").read_text()
    rows = {
        name: (declared, tested)
        for name, declared, tested in re.findall(r"^\| (\w+) \| (>=\S+) \| (.+) \|$", page, re.M)
    }
    asked = [
        Requirement(text) for text in (*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values()))
    ]
    ranges = {ask.name: str(ask.specifier) for ask in asked}
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    libraries = ("torch", "diffusers", "transformers", "timm")
    assert rows.pop("Python") == (PROJECT["requires-python"], f"{PYTHONS[0]}, {PYTHONS[-1]}")
    assert rows == {name: (ranges[name], pins[name]) for name in libraries}
