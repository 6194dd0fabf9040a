"""Systems that act around whole blocks: they hear of every forward, and are undone with the run."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.rows import Rows
from saccade.core.site import Site
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host


@dataclass
class Surround:
    """Keeps what it hears."""

    name: str = "surround"
    seen: list[tuple[int, str, int, tuple[str, ...] | None]] = field(default_factory=list)
    sites: tuple[Site, ...] = ()
    undone: int = 0

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return ()

    def surround(self, model: Any, sites: tuple[Site, ...]) -> "Surround":
        self.sites = sites
        return self

    def begin(self, clock: Clock, rows: Rows | None, batch: int) -> None:
        self.seen.append((clock.step, clock.branch, batch, None if rows is None else rows.roles))

    def undo(self) -> None:
        self.undone += 1


def test_every_forward_is_announced_with_its_step_and_rows() -> None:
    given: dict[str, Any] = {"height": 32, "width": 32, "num_inference_steps": 2, "max_sequence_length": 8}
    pipe, system = tiny_sd3(), Surround()
    with attach(pipe, system) as run:
        pipe("a red circle", guidance_scale=3.0, **given)
        assert system.sites == run.sites and system.undone == 0
    assert system.seen == [(step, "main", 2, ("uncond", "cond")) for step in (0, 1)]
    assert system.undone == 1
    pipe, system = tiny_flux(), Surround()
    with attach(pipe, system):
        pipe("a red circle", true_cfg_scale=2.0, negative_prompt="", **given)
    assert system.seen == [(step, role, 1, (role,)) for step in (0, 1) for role in ("cond", "uncond")]
