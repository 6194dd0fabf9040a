"""DiCo's experiment: who is compared with whom, and when its speed counts as growing."""

from pathlib import Path
from typing import Any

import pytest

from saccade.experiments import Results
from saccade.models.sizing import parameters
from saccade.papers.dico.experiment import ARMS, EXPERIMENT, GATE, GROWS, NO_GATE
from saccade.papers.dico.model import DiCo, DiCoConfig


def _results(small: dict[str, Any], large: dict[str, Any]) -> Results:
    return Results(device="", date="", versions={}, settings={"rounds": 3}, tables={"speed": [small, large]})


@pytest.mark.parametrize(
    ("large", "verdict"),
    [
        ({"low": 1.3, "faster": 1.4, "high": 1.5}, "confirmed"),
        ({"low": 1.1, "faster": 1.2, "high": 1.3}, "undecided"),
        ({"low": 0.6, "faster": 0.7, "high": 0.8}, "refuted"),
    ],
)
def test_speed_grows_where_quartiles_do_not_overlap(large: dict[str, float], verdict: str) -> None:
    assert GROWS.verdict(_results({"low": 0.9, "faster": 1.0, "high": 1.2}, large)) == verdict


def test_the_arm_without_a_gate_has_as_many_parameters() -> None:
    sizes = {
        arm: DiCo.parameters_of(DiCoConfig(width=32, depths=(1, 1, 2, 1, 1), heads=1, channels=3, **options))
        for arm, options in ARMS.items()
    }
    assert sizes[NO_GATE] == pytest.approx(sizes[GATE], rel=1e-3)


@pytest.mark.slow
def test_the_timed_dit_multiplies_as_often_at_the_smallest_side(tmp_path: Path) -> None:
    small, large = EXPERIMENT.run(tmp_path, only=("speed",), quick=True).rows("speed")
    assert small["dit_macs"] == pytest.approx(small["dico_macs"], rel=0.15)
    assert large["dico_macs"] == pytest.approx(4 * small["dico_macs"], rel=0.1)


@pytest.mark.slow
def test_an_arm_is_trained_once_and_measured_alike(tmp_path: Path) -> None:
    first = EXPERIMENT.run(tmp_path, only=("arms",), quick=True)
    assert [row["arm"] for row in first.rows("arms")] == list(ARMS) and not first.tables.keys() - {"arms"}
    assert first.rows("arms", arm=GATE)[0]["parameters"] == parameters(
        DiCo(DiCoConfig(width=8, depths=(1, 1, 1, 1, 1), heads=1, channels=3, classes=28, learned_variance=False))
    )
    (tmp_path / "arms-0.json").unlink()
    checkpoints = {path: path.stat().st_size for path in tmp_path.glob("arms/*/checkpoint.pt")}
    again = EXPERIMENT.run(tmp_path, only=("arms",), quick=True)
    assert len(checkpoints) == 3 and again.tables == first.tables
