"""The experiment of the distillation: what its rows say, and what its page makes of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from saccade.experiments import Figures, Results
from saccade.experiments.page import made
from saccade.papers.clear import Clear, distilled_arms
from saccade.papers.clear.arms import ADAPTER, DENSE, LINEAR, adapted, disc
from saccade.papers.clear.distillation_experiment import ARMS, sampled
from saccade.papers.clear.distillation_sections import CLAIMS, SECTIONS
from saccade.papers.clear.zero_shot import noised, velocity
from saccade.pipelines.shared import shared_pipeline


@pytest.fixture(scope="module")
def pipe() -> Any:
    return shared_pipeline("scenes-flux")


def test_arms_differ_in_their_labels_and_the_adapted_disc_in_its_adapter_alone() -> None:
    assert len({arm.label for arm in ARMS}) == len(ARMS)
    plain, with_adapter = disc(4), adapted(4)
    assert isinstance(with_adapter.system, Clear) and with_adapter.system.distilled == ADAPTER
    assert with_adapter.system.radius == 4 and with_adapter.label == f"{plain.label} distilled"
    assert all(arms[0] is DENSE for arms in sampled())


@pytest.mark.host
def test_a_covering_disc_without_terms_is_the_teacher(pipe: Any) -> None:
    data = noised(pipe, 8, 1)
    dense = velocity(pipe, data)
    row, after = distilled_arms.compared(pipe, data, dense, (disc(99), disc(1.5)))
    assert row["before"] == 0 and row["after"] == pytest.approx(sum(after)) and after[0] > 0
    assert row["gained"] == pytest.approx(-row["after"])
    assert row["flow_before"] == row["flow_dense"] and row["extra"] == pytest.approx(
        row["flow_after"] - row["flow_dense"]
    )


@pytest.mark.slow
@pytest.mark.host
def test_the_bundled_adapter_brings_its_radius_nearer_to_the_teacher(pipe: Any) -> None:
    plain, scaled = distilled_arms.by_radius(pipe, 32, (8,), 1)
    assert plain["after"] < 0.5 * plain["before"] and plain["flow_after"] < plain["flow_before"]
    assert scaled["scaled"] and not plain["scaled"]


@pytest.mark.slow
@pytest.mark.host
def test_arms_are_distilled_alike_and_discs_measured_on_both_grids(pipe: Any, tmp_path: Path) -> None:
    draw = distilled_arms.draws(pipe, 8, tmp_path, batch=2, pool=2)
    said = SimpleNamespace(grids=(8, 12), pictures=(2, 1), steps=3)
    rows = list(distilled_arms.at_one_budget(pipe, (disc(2), LINEAR), draw, tmp_path, said))
    found = [(row["grid"], row["arm"]) for row in rows]
    assert found == [(8, "disc r=2"), (12, "disc r=2"), (12, "disc r=2 proportional"), (8, "linear (elu + 1)")]
    assert rows[0]["behind"] == 0 and rows[3]["behind"] == pytest.approx(rows[3]["after"] - rows[0]["after"])
    assert all(row["after"] != row["before"] for row in rows)


def results() -> Results:
    loss = {
        "scaled": False, "pairs": 0.2, "before": 0.1234, "after": 0.0234, "flow_before": 0.2, "flow_after": 0.1,
        "flow_dense": 0.05, "weights": "0123456789ab", "gained": 0.1, "gained_low": 0.05, "gained_high": 0.15,
        "extra": 0.05, "extra_low": 0.02, "extra_high": 0.08, "behind": -0.1, "behind_low": -0.2, "behind_high": -0.05,
    }  # fmt: skip
    sample = {"pairs": 0.2, "psnr": 20.04, "kept": 0.5, "kept_low": 0.2, "kept_high": 0.8, "colour": 1.0, "shape": None}
    said = {
        "model": "any", "grids": (16, 32), "pictures": (16, 4), "captions": (24, 12), "sampling": 16, "steps": 80,
        "batch": 4,
    }  # fmt: skip
    tables = {
        "losses": [loss | {"grid": 32, "arm": f"disc r={r}", "radius": r} for r in (4, 8)],
        "samples": [sample | {"grid": 16, "arm": "disc r=8 distilled"}],
        "arms": [loss | {"grid": 16, "arm": arm.label} for arm in ARMS],
    }
    return Results(device="any", date="2026-01-01", versions={"torch": "2"}, settings=said, tables=tables)


def test_the_page_holds_every_figure_and_verdict(tmp_path: Path) -> None:
    text = "\n".join(made(SECTIONS, results(), Figures(folder=tmp_path, name="clear_distillation")).values())
    for value in ("0.1234", "0.0234", "0.0500 [0.0200, 0.0800]", "-0.1000 [-0.2000, -0.0500]", "20.0 dB", "80 steps"):
        assert value in text
    assert {file.name for file in tmp_path.glob("*.svg")} == {"clear_distillation-radii.svg"}
    verdicts = [claim.verdict(results()) for claim in CLAIMS]
    assert verdicts == ["confirmed"] * 3 + ["refuted"] * 3
