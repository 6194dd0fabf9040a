"""Grouped-query attention and pictures inside compiled graphs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.mechanism import KernelChoice, PlanItem
from saccade.core.site import Site
from tests.hosts.stand_ins import Near
from tests.hosts.tiny import BY_NAME, output
from tests.hosts.transformers.texts import RIGHT

pytestmark = [pytest.mark.host, pytest.mark.compile]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@dataclass(frozen=True)
class Gathered:
    """A window that must run by one kernel, which refuses inside a graph what was not prepared outside."""

    kernel: str = "gather"
    name: str = "gathered"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        return (Near(3), KernelChoice(self.kernel))


@pytest.mark.parametrize("padded", [False, True])
def test_keys_shared_among_heads_are_gathered_inside_a_graph(padded: bool) -> None:
    model, inputs = BY_NAME["llada"].build()
    given: dict[str, Any] = {**inputs, "attention_mask": RIGHT} if padded else inputs
    with attach(model, Gathered("reference")):
        exact = output(model, given)
    outer: Any = torch.compile(model, fullgraph=True, backend="aot_eager")
    with attach(outer, Gathered()) as run:
        found = output(outer, given)
    real = RIGHT.bool() if padded else torch.ones_like(RIGHT).bool()
    torch.testing.assert_close(found[real], exact[real], rtol=1e-4, atol=1e-5)
    assert {site.kernel for site in run.report().sites} == {"gather"}
