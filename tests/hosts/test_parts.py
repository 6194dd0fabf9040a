"""Parts of a step: each has state of its own, and counts the branches of guidance anew."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from saccade.attach import attach
from saccade.core.call import AttentionCall
from saccade.core.clock import Clock
from saccade.core.mechanism import Mechanism
from saccade.core.site import Site
from saccade.core.state import Memory
from tests.hosts.tiny import BY_NAME, output

pytestmark = pytest.mark.host
Notes = list[tuple[str, float | None, float]]  # branch, what was read, what was put


@dataclass(frozen=True, kw_only=True, eq=False)
class Noting(Mechanism):
    """Notes what the last step put, and puts a number of this call."""

    notes: Notes
    branch: str

    def operands(self, call: AttentionCall, mem: Memory) -> AttentionCall:
        before = float(mem.get("mean")) if mem.has("mean") else None
        mem.put("mean", call.q.mean())
        self.notes.append((self.branch, before, float(call.q.mean())))
        return call


@dataclass(frozen=True, kw_only=True)
class Watching:
    notes: Notes = field(default_factory=list)
    name: str = "watching"

    def plan(self, site: Site, clock: Clock) -> tuple[Any, ...]:
        return (Noting(notes=self.notes, branch=clock.branch),) if site.index == 0 else ()


def walk(parts: tuple[str, ...], steps: int = 3) -> list[Notes]:
    """Notes of each part, whose latents are its own; both branches of each part in each step."""
    model, inputs = BY_NAME["wan"].build()
    system, times = Watching(), [900, 600, 300]
    with attach(model, system, schedule=times) as run:
        for time in times[:steps]:
            for number, part in enumerate(parts):
                if part:
                    run.part(part)
                for _ in ("cond", "uncond"):
                    latents = inputs["hidden_states"] * (1 + number) + time / 1000
                    output(model, {**inputs, "hidden_states": latents, "timestep": torch.full((2,), time)})
    calls = 2 * len(parts)
    rows = [system.notes[start : start + calls] for start in range(0, len(system.notes), calls)]
    return [[note for row in rows for note in row[2 * part : 2 * part + 2]] for part in range(len(parts))]


@pytest.mark.parametrize("parts", [("windows 0, 1", "windows 1, 2"), ("whole",), ("",)])
def test_each_part_reads_what_it_put_itself(parts: tuple[str, ...]) -> None:
    for notes in walk(parts):
        assert [branch for branch, _, _ in notes] == ["cond", "uncond"] * 3
        for branch in ("cond", "uncond"):
            own = [(read, put) for name, read, put in notes if name == branch]
            assert [read for read, _ in own] == [None, *(put for _, put in own[:-1])]
            assert len({put for _, put in own}) == 3
