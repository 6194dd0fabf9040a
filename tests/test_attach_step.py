"""Steps given by hand, for models that receive no timestep."""

import pytest
import torch

from saccade.attach import Run, attach
from saccade.core.clock import Clock
from saccade.core.errors import SaccadeError
from saccade.core.site import at
from tests.hosts.stand_ins import Kept, Looking, Same, Steps
from tests.hosts.tiny import BY_NAME, PLAIN, output

pytestmark = pytest.mark.host
STEPS = 4


def plain(*systems: object, **options: object) -> tuple[Run, object]:
    model, inputs = BY_NAME["plain"].build()
    run = attach(model, *systems, layout=PLAIN, **options)  # type: ignore[arg-type]
    return run, lambda: output(model, inputs)


def generate(run: Run, forward: object, forwards: int = 1) -> list[torch.Tensor]:
    assert callable(forward)
    made = []
    for step in range(STEPS):
        for _ in range(forwards):
            run.step(step, of=STEPS)
            made.append(forward())
    return made


def test_the_step_told_is_the_step_systems_see() -> None:
    seen: list[Clock] = []
    run, forward = plain(Steps(seen))
    with run:
        seen.clear()
        generate(run, forward)
    assert list(dict.fromkeys(seen)) == [Clock(step=i, num_steps=STEPS) for i in range(STEPS)]
    assert run.report().steps == STEPS
    assert {site.calls for site in run.report().sites} == {STEPS // 2}


def test_during_holds_for_steps_told() -> None:
    run, forward = plain(Same(), where=at(during=(0.0, 0.5)))
    with run:
        generate(run, forward)
    assert {site.calls for site in run.report().sites} == {STEPS // 2}


def test_what_a_step_keeps_is_read_by_the_next_one_only() -> None:
    run, forward = plain(Looking(Kept()))
    with run:
        first, again, second, *_ = generate(run, forward, forwards=2)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert (run.report().steps, run.report().forwards) == (STEPS, 2 * STEPS)


def test_step_zero_begins_a_new_generation() -> None:
    run, forward = plain(Looking(Kept()))
    with run:
        first = generate(run, forward)
        again = generate(run, forward)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(
    ("index", "of", "message"),
    [
        (4, 4, "index=4 is no step of=4; steps run from 0 to of - 1"),
        (-1, 4, "index=-1 is no step of=4"),
        (0, 0, "index=0 is no step of=0"),
        (2, 8, "of=8 differs from the 4 steps given so far; begin again with step 0"),
    ],
)
def test_a_step_that_does_not_exist_is_refused(index: int, of: int, message: str) -> None:
    run, _ = plain(Same())
    with run:
        run.step(1, of=STEPS)
        with pytest.raises(ValueError, match=message):
            run.step(index, of=of)


def test_a_step_cannot_be_told_beside_a_schedule() -> None:
    run, _ = plain(Same(), schedule=[1000.0, 500.0])
    with run, pytest.raises(SaccadeError, match="looks its steps up in the schedule of list; attach without schedule="):
        run.step(0, of=2)
