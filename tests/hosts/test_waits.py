"""A warm forward asks the device for no number: on a card each would be a wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch.utils._python_dispatch import TorchDispatchMode

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.papers.sparsed import SparseD
from tests.hosts.stand_ins import Masked, Same, Steps
from tests.hosts.tiny import BY_NAME, output
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
ASKING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select")


class Waits(TorchDispatchMode):
    """Counts the operators whose result the host must wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ASKING:
            self.found.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def waits() -> Iterator[list[str]]:
    with Waits() as mode:
        yield mode.found


def test_what_is_counted() -> None:
    x = torch.ones(3)
    with waits() as found:
        assert bool(x.sum() > 0) and x.max().item() == 1 and len(x.nonzero()) == 3
        x.tolist()
    assert len(found) >= 3


@pytest.mark.parametrize("system", [Same(), Masked(), Steps([]), SparseD(keep=0.4, block=4)], ids=lambda s: s.name)
@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_a_warm_forward_waits_for_nothing_while_the_scheduler_says_the_step(name: str, system: Any) -> None:
    model, inputs = BY_NAME[name].build()
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(8)
    scheduler.set_begin_index(0)
    sample, found = torch.zeros(1), []
    scale = 1000 if name == "flux" else 1
    with attach(model, system, schedule=scheduler) as run:
        for time in torch.as_tensor(scheduler.timesteps):
            given = {**inputs, "timestep": (time / scale).expand(2)}
            with waits() as asked:
                output(model, given)
            found.append(len(asked))
            scheduler.step(sample, time, sample)
    assert found[-1] == found[-2] == 0 and run.clock is not None and run.clock.step == 7


def test_a_warm_forward_of_a_pipeline_waits_for_nothing() -> None:
    pipe, running, found = tiny_flux(), [], []

    def before(*_: Any) -> None:
        running.append(Waits())
        running[-1].__enter__()

    def after(*_: Any) -> None:
        running[-1].__exit__(None, None, None)
        found.append(len(running[-1].found))

    with attach(pipe, Masked()):
        hooks = (
            pipe.transformer.register_forward_pre_hook(before, prepend=True),
            pipe.transformer.register_forward_hook(after),
        )
        pipe("a red circle", height=32, width=32, num_inference_steps=4, output_type="latent", max_sequence_length=16)
    for hook in hooks:
        hook.remove()
    assert found[0] > 0 and found[1:] == [0, 0, 0]


def test_a_forward_without_a_schedule_reads_no_timestep_unasked() -> None:
    model, inputs = BY_NAME["sd3"].build()
    with attach(model, Same()) as run:
        output(model, inputs)
        with waits() as asked:
            output(model, inputs)
        assert asked == [] and run.clock is not None
        assert run.clock.timestep == 500


def test_the_largest_timestep_counts_where_tokens_have_their_own() -> None:
    assert Clock(given=torch.tensor([[0.0, 300.0], [20.0, 10.0]])).timestep == 300
    assert Clock().timestep is None
