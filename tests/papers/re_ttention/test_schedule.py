"""When Re-ttention is dense, takes statistics and is sparse, for any number of steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saccade.core.clock import Clock
from saccade.core.site import Site
from saccade.papers.re_ttention import PRESETS, ReTtention

SITE = Site(name="blocks.0.attn1", kind="self", heads=2)


def test_the_published_schedules() -> None:
    def taken(system: ReTtention, steps: int) -> list[int]:
        return [s for s in range(steps) if system.phase(s, steps) == "take"]

    found = {name: PRESETS[name].full_steps(n) for name, n in (("pixart", 20), ("hunyuan_dit", 50), ("cogvideox", 50))}
    assert found == {"pixart": 8, "hunyuan_dit": 18, "cogvideox": 22}
    assert taken(PRESETS["pixart"], 20) == [5, 10, 15]
    assert taken(PRESETS["cogvideox"], 50) == [15, 20, 25, 30, 35, 40, 45]
    assert taken(PRESETS["pixart"], 40) == [10, 15, 20, 25, 30, 35]  # the official list of three would leave 24 stale


@given(
    steps=st.integers(1, 120), share=st.floats(0, 1), period=st.integers(1, 9), first=st.integers(0, 120),
)  # fmt: skip
def test_sparse_steps_always_follow_statistics_at_most_a_period_old(
    steps: int, share: float, period: int, first: int
) -> None:
    first = min(first, steps - 1)
    system = ReTtention(dense=share, period=period)
    phases = [system.phase(step, steps, first) for step in range(first, steps)]
    start = max(int(steps * share + 1e-9), first) - first
    assert "sparse" not in phases[: start + 1] and "take" not in phases[:start]
    for at_, phase in enumerate(phases):
        if phase == "sparse":
            assert "take" in phases[max(at_ - period + 1, 0) : at_]
    plans = [system.plan(SITE, Clock(step=s, num_steps=steps, first=first)) for s in range(first, steps)]
    assert len({plan for plan in plans if plan}) <= 2  # equal phases, equal objects


@pytest.mark.parametrize("system", [ReTtention(dense=1), ReTtention(period=1), ReTtention(dense=1, period=1)], ids=repr)
@given(steps=st.integers(1, 99))
def test_all_steps_dense_is_the_host(system: ReTtention, steps: int) -> None:
    assert not system.timed and system.full_steps(steps) == steps
    assert all(system.plan(SITE, Clock(step=step, num_steps=steps)) == () for step in range(steps))
