"""Pipelines called as people call them: rows, steps and tokens are as they are, and masks act on all of it."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site
from tests.hosts.pipeline_ways import WAYS, Made, Way
from tests.hosts.stand_ins import Look, Masked

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")]
CASES = [(pipeline, way) for pipeline, ways in WAYS.items() for way in ways]
every_way = pytest.mark.parametrize(("pipeline", "way"), CASES, ids=[f"{p}: {w}" for p, w in CASES])


@dataclass(frozen=True, eq=False)
class Heard:
    """Collects clock and call of the first site of every forward."""

    clocks: list[Clock] = field(default_factory=list)
    calls: list[AttentionCall] = field(default_factory=list)
    name: str = "heard"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        if site.index:
            return ()
        self.clocks.append(clock)
        return (Look(self.calls.append),)


def drawn(made: Made) -> Tensor:
    pipe, call = made
    result: Any = pipe(**call, generator=torch.Generator().manual_seed(0))
    return result[0] if isinstance(result[0], Tensor) else result[0][0]


@every_way
def test_every_forward_is_told_what_it_is(pipeline: str, way: str) -> None:
    known: Way = WAYS[pipeline][way]
    pipe, call = known.make()
    plain = drawn((pipe, call))
    with attach(pipe, heard := Heard()):
        heard.clocks.clear()  # attach asks for a few, to find errors early
        found = drawn((pipe, call))
    torch.testing.assert_close(found, plain, rtol=1e-2, atol=1e-3)
    assert [clock.step for clock in heard.clocks] == [s for s in range(known.steps) for _ in known.roles]
    assert {clock.num_steps for clock in heard.clocks} == {known.steps}
    roles = [call.rows.roles if call.rows else None for call in heard.calls]
    assert roles == list(known.roles) * known.steps
    assert all(call.q.shape[0] == len(row) for call, row in zip(heard.calls, roles, strict=True) if row)
    segments = heard.calls[0].layout_q.segments
    assert tuple(s.name for s in segments if s.kind == "extra") == known.extra


@pytest.mark.slow
@every_way
def test_a_mask_acts_and_detach_gives_the_pipeline_back(pipeline: str, way: str) -> None:
    pipe, call = WAYS[pipeline][way].make()
    plain = drawn((pipe, call))
    with attach(pipe):
        assert torch.equal(drawn((pipe, call)), plain)
    with attach(pipe, Masked()):
        masked = drawn((pipe, call))
    assert masked.isfinite().all() and not torch.allclose(masked, plain, atol=1e-6)
    assert torch.equal(drawn((pipe, call)), plain)
