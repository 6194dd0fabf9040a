"""The arms of NiNformer's experiment."""

from pathlib import Path
from typing import Any

import pytest

from saccade.experiments.classifier import open_pictures
from saccade.models.sizing import parameters
from saccade.papers import MixerGatingUnit
from saccade.papers.ninformer.experiment import (
    ARMS,
    BARE,
    MIXER,
    OURS,
    STATIC,
    VIT,
    WIDE,
    Settings,
    model,
    size,
    timing,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    source = open_pictures("scenes", 16, Path(tmp_path_factory.mktemp("pictures")))
    return {arm: model(arm, Settings(source="scenes"), source) for arm in ARMS}


def test_wide_baselines_have_as_many_parameters(made: dict[str, Any]) -> None:
    goal = parameters(made[OURS])
    for arm in WIDE:
        assert made[arm].config.width > made[VIT].config.width and 0.9 < parameters(made[arm]) / goal < 1.1
    assert len({made[arm].config.width for arm in ARMS if arm not in WIDE}) == 1


def test_arms_differ_in_their_parts_alone(made: dict[str, Any]) -> None:
    units = {arm: made[arm].stack.blocks[0].unit for arm in (OURS, STATIC, BARE)}
    assert all(isinstance(unit, MixerGatingUnit) and unit.tokens == 16 for unit in units.values())
    assert parameters(units[OURS]) - parameters(units[BARE]) == 64**2 + 64
    assert parameters(units[STATIC]) == 64**2 + 64 + 16 * 64
    assert {made[arm].config.depth for arm in ARMS} == {3}


def test_costs_and_ratios() -> None:
    source = open_pictures("scenes", 16, Path())
    row = size(model(STATIC, Settings(source="scenes"), source), source)
    n, d, f = 16, 64, 128
    assert row["macs"] == n * d * 48 + 3 * (n * d**2 + 2 * n * d * f) + d * source.classes
    assert timing("a", {"a": [2.0, 4.0], MIXER: [1.0, 2.0]}) == {
        "arm": "a",
        "ms": 3000,
        "ratio": 2,
        "low": 2,
        "high": 2,
    }
