"""Parts of a step: each has state of its own, and counts the branches of guidance anew."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism
from saccade.core.site import Site
from saccade.core.state import Memory
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain(Mechanism):
    """Hands on a number that grows by one each step, apart for each memory."""

    seen: list[tuple[int, str]] = field(default_factory=list)
    branch: str = ""

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        steps = int(mem.get("steps")) + 1 if mem.has("steps") else 0
        self.seen.append((steps, self.branch))
        mem.put("steps", torch.tensor(steps))
        return call


@dataclass(frozen=True, kw_only=True)
class Counting:
    seen: list[tuple[int, str]] = field(default_factory=list)
    name: str = "counting"

    def plan(self, site: Site, clock: Clock) -> tuple[Any, ...]:
        return (Chain(seen=self.seen, branch=clock.branch),) if site.index == 0 else ()


def walk(parts: tuple[str, ...], steps: int = 2) -> list[tuple[int, str]]:
    """Both branches of each part in each step."""
    model, inputs = BY_NAME["wan"].build()
    system, times = Counting(), [900, 600, 300]
    with attach(model, system, schedule=times) as run:
        for time in times[:steps]:
            for part in parts:
                if part:
                    run.part(part)
                for _ in ("cond", "uncond"):
                    made = output(model, {**inputs, "timestep": torch.full((2,), time)})
                    assert isinstance(made, Tensor)
    return system.seen


def test_each_part_reads_what_it_put_itself() -> None:
    found = walk(("windows 0, 1", "windows 1, 2"))
    assert found == [(step, branch) for step in range(2) for _ in range(2) for branch in ("cond", "uncond")]


def test_one_part_and_none_are_alike() -> None:
    assert walk(("whole",)) == walk(("",)) == [(step, branch) for step in range(2) for branch in ("cond", "uncond")]
