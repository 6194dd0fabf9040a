"""The table of control: its tasks name what the papers' experiments have, and every one runs."""

import json
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from saccade.cli import app
from saccade.core.catalogue import experiments
from saccade.data import scenes
from saccade.experiments.results import newest
from saccade.studies.control_and_speed import Studio, compose
from saccade.studies.control_and_speed.tasks import TASKS, ControlCases
from tests.tiny_flux import tiny_flux

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.mark.parametrize("name", TASKS)
def test_a_task_names_what_its_experiment_has(name: str) -> None:
    task = TASKS[name]
    experiment = import_module(experiments()[task.paper]).EXPERIMENT
    assert {*(task.parts or (task.table,))} <= {*experiment.parts} and hasattr(experiment.settings, task.cases)
    assert {*task.fewer} <= {*vars(experiment.settings)}
    published = newest(RESULTS, task.paper)
    for arm in task.arms.values():
        (*_, row) = published.rows(task.table, arm=arm)
        assert {*task.scores} <= {*row}


@pytest.mark.slow
def test_every_task_gives_a_row_for_each_score_and_arm(tmp_path: Path) -> None:
    chosen = ("reshape", "add", "guide", "story")
    words = [word for name in chosen for word in ("--task", name)]
    result = CliRunner().invoke(
        app, ["bench", "control", "--quick", "--count", "2", *words, "--json", str(tmp_path / "control.json")]
    )
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "control.json").read_text())["rows"]
    wanted = {
        (name, score, arm) for name in chosen for score in TASKS[name].scores.values() for arm in TASKS[name].arms
    }
    assert {(row["task"], row["score"], row["arm"]) for row in rows} == wanted
    assert all(row["low"] is None or row["low"] <= row["mid"] <= row["high"] for row in rows)


def test_two_objects_are_asked_for_side_by_side_wherever_in_their_halves() -> None:
    _, promised = compose(Studio(pipe=tiny_flux(), side=32, steps=1), 0, ())
    left, right = ({"colour": want.colour, "shape": want.shape, "size": "large"} for want in promised.wants)

    def kept(*places: tuple[float, float]) -> bool:
        pairs = zip((left, right), places, strict=True)
        things = tuple(scenes.Thing(**thing, x=x, y=y) for thing, (x, y) in pairs)
        return scenes.judge(scenes.render(scenes.Scene(things=things, background="gray"), 128) / 255, promised).all

    assert kept((0.25, 0.25), (0.75, 0.7)) and not kept((0.75, 0.25), (0.25, 0.7))


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="task 'paint' is unknown; choose from recolour, reshape"):
        ControlCases(tasks=("paint",))
    with pytest.raises(ValueError, match="count=0 must be at least 1"):
        ControlCases(count=0)
