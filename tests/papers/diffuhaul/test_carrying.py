"""Carried keys: raw ones of the old place, rotated as the host rotates those of the new one; features as recorded."""

from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.rows import Rows
from saccade.core.state import Memory
from saccade.mechanisms.operand_tape import RecordOperands
from saccade.papers.diffuhaul import Blob
from saccade.papers.diffuhaul.carrying import CarriedOperands, carried
from tests.hosts.stand_ins import looking
from tests.hosts.tiny import BY_NAME, output
from tests.papers.diffuhaul.hauling import outputs, pair_call

pytestmark = pytest.mark.host
PAIR = Rows.of("source", "target")
OLD, NEW = Blob(x=0.2, y=0.3, a=0.2, b=0.2), Blob(x=0.7, y=0.6, a=0.2, b=0.2)


@pytest.mark.parametrize("name", ["flux", "sd3", "unet"])
def test_keys_of_the_object_are_those_of_its_old_place_turned_to_the_new_one(name: str) -> None:
    from tests.hosts.models.unets import unet

    model, inputs = unet() if name == "unet" else BY_NAME[name].build()
    seen: list[str] = []

    def look(call: AttentionCall) -> None:
        if not call.layout_q.of("image") or call.layout_k is not call.layout_q:
            return
        span, grid = call.layout_q.span("image"), call.layout_q.image.grid
        assert grid is not None
        share, moved = CarriedOperands(source=OLD, target=NEW), carried(OLD, NEW, grid)
        share.check(call.layout_q, call.layout_k)
        found = share.operands(call, Memory())
        raw = call.host.raw(call.k)[0, :, span]
        wanted = torch.where(
            moved.weight.flatten()[:, None] > 0, raw[:, moved.taken], call.host.raw(call.k)[1, :, span]
        )
        torch.testing.assert_close(call.host.raw(found.k)[1, :, span], wanted, rtol=1e-4, atol=1e-5)
        own = torch.where(moved.weight.flatten()[:, None] > 0, call.v[0, :, span][:, moved.taken], call.v[1, :, span])
        assert torch.equal(found.v[1, :, span], own) and torch.equal(found.k[0], call.k[0])
        seen.append(call.site.name)

    with attach(model, looking(look, "host.raw"), rows=PAIR):
        output(model, inputs)
    assert seen


def test_outputs_are_recorded_beside_operands() -> None:
    call, into = pair_call(text=2), dict[str, Tensor]()
    parts = outputs(call)
    RecordOperands(into=into, names="ko").observe(call, parts, Memory())
    assert torch.equal(into["o"], parts.total[:, :, 2:]) and torch.equal(into["k"], call.k[:, :, 2:])


def test_a_plan_knows_the_part_of_its_step() -> None:
    from dataclasses import dataclass

    from saccade.core.clock import Clock
    from saccade.core.site import Site

    parts: list[str] = []

    @dataclass(frozen=True)
    class Asks:
        name: str = "asks"

        def plan(self, site: Site, clock: Clock) -> tuple[Any, ...]:
            parts.append(clock.part)
            return ()

    model, inputs = BY_NAME["flux"].build()
    with attach(model, Asks()) as run:
        for part in ("", "source", "target"):
            run.part(part)
            parts.clear()
            output(model, inputs)
            assert set(parts) == {part}
