"""Systems are set to one density, counted over a whole run."""

from dataclasses import replace

import pytest

from saccade.core.layout import Layout
from saccade.studies.equal_density import EXPERIMENT, choose
from saccade.studies.equal_density.knobs import START, knobs, run_density
from saccade.systems.dense import Dense

LAYOUT = Layout.joint(text=4, grid=(1, 16, 16))


@pytest.mark.parametrize("label", ["CLEAR", "CLEAR, dense start", "Re-ttention", "DraftAttention", "VMoBA"])
def test_a_knob_is_turned_to_the_nearest_density(label: str) -> None:
    (knob,) = (knob for knob in knobs(16) if knob.label == label)
    _, density = replace(knob, values=knob.values[:64]).nearest(0.5, LAYOUT, steps=8, heads=1)
    assert density == pytest.approx(0.5, abs=0.06)


def test_a_run_counts_its_dense_steps() -> None:
    assert run_density(Dense(), LAYOUT, steps=4, heads=1) == 1
    always, later = (
        run_density(replace(knob, values=(4, 4)).nearest(0, LAYOUT, 8, 1)[0], LAYOUT, 8, 1)
        for knob in knobs(16)
        if knob.system == "clear"
    )
    assert 0 < always < 1 and later == pytest.approx(START + (1 - START) * always)


def test_the_distilled_disc_stands_last_at_its_own_density() -> None:
    about = replace(EXPERIMENT.settings, densities=(), tokens=16 * 16 + 4, steps=8)
    ((target, label, system, density),) = choose(about, LAYOUT, heads=1)
    assert (target, label) == (1.0, "CLEAR, radius 8, distilled") and 0 < density < 1
    assert system.distilled and system.radius == 8  # type: ignore[attr-defined]
