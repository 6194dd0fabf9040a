"""The step of every forward is found, whatever a pipeline does to the timestep on its way to the model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import pytest
import torch
from torch import Tensor

from saccade.attach import attach
from saccade.core.clock import Clock
from saccade.core.mechanism import PlanItem
from saccade.core.site import Site
from saccade.pipelines.flow import Flow
from saccade.run.schedule import Schedule
from tests.hosts.tiny import BY_NAME
from tests.tiny_flux import tiny_flux

pytestmark = pytest.mark.host
EVERY = range(1, 101)
SOME = (*range(1, 13), 28, 50, 100)
LOW, DTYPES = (torch.bfloat16, torch.float16), (torch.bfloat16, torch.float32)
NO_TEXT = {"text_encoder": None, "tokenizer": None, "vae": None}
SMALL = {"height": 32, "width": 32, "output_type": "latent"}


@dataclass(frozen=True, eq=False)
class Clocks:
    """Collects the clocks it is asked for and wants nothing."""

    seen: list[Clock] = field(default_factory=list)
    name: str = "clocks"

    def plan(self, site: Site, clock: Clock) -> tuple[PlanItem, ...]:
        self.seen.append(clock)
        return ()


def flux(transformer: Any, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """With FLUX.1's published settings of the scheduler."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    pipe = FluxPipeline(**NO_TEXT, text_encoder_2=None, tokenizer_2=None, transformer=transformer, scheduler=scheduler)
    texts = {"prompt_embeds": torch.zeros(1, 6, 32), "pooled_prompt_embeds": torch.zeros(1, 32)}
    return pipe, {**SMALL, **{name: value.to(dtype) for name, value in texts.items()}}


def qwen_image(transformer: Any, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """With Qwen-Image's."""
    from diffusers import FlowMatchEulerDiscreteScheduler, QwenImagePipeline

    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02,
        time_shift_type="exponential",
    )  # fmt: skip
    pipe = QwenImagePipeline(**NO_TEXT, transformer=transformer, scheduler=scheduler)
    mask = torch.ones(1, 6, dtype=torch.long)
    return pipe, {**SMALL, "prompt_embeds": torch.zeros(1, 6, 16, dtype=dtype), "prompt_embeds_mask": mask}


def wan(transformer: Any, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    from diffusers import UniPCMultistepScheduler, WanPipeline

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    pipe = WanPipeline(**NO_TEXT, transformer=transformer, scheduler=scheduler)
    return pipe, {**SMALL, "num_frames": 5, "prompt_embeds": torch.zeros(1, 6, 32, dtype=dtype), "guidance_scale": 1.0}


PIPELINES: dict[str, Callable[[Any, torch.dtype], tuple[Any, dict[str, Any]]]] = {
    make.__name__: make for make in (flux, qwen_image, wan)
}


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # Qwen-Image's scheduler at one step
@pytest.mark.parametrize("counts", [SOME, pytest.param(EVERY, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_is_followed_at_every_number_of_steps(name: str, dtype: torch.dtype, counts: Sequence[int]) -> None:
    """The transformer's own forward would only take time: what it receives is what counts."""
    transformer, _ = BY_NAME[name].build()
    transformer.to(dtype)

    @wraps(transformer.forward)
    def forward(*args: Any, hidden_states: Tensor, **given: Any) -> tuple[Tensor]:
        return (torch.zeros_like(hidden_states),)

    transformer.forward = forward
    pipe, inputs = PIPELINES[name](transformer, dtype)
    pipe.set_progress_bar_config(disable=True)
    with attach(pipe, clocks := Clocks()):
        for count in counts:
            clocks.seen.clear()
            pipe(num_inference_steps=count, **inputs)
            assert list(dict.fromkeys(clock.step for clock in clocks.seen)) == list(range(count)), count
            assert {clock.num_steps for clock in clocks.seen} == {count}


def test_an_inversion_tells_levels_apart_that_look_alike_in_low_precision() -> None:
    flow = Flow(pipe=tiny_flux().to(torch.bfloat16), height=32, width=32, text_tokens=8)
    levels, noise = flow.levels(100), torch.zeros(1, 16, 16)
    with attach(flow.pipe, clocks := Clocks(), schedule=levels):
        velocity = flow.velocity(["a red circle"], levels=levels)
        clocks.seen.clear()  # attach asks for a few, to find errors early
        for sigma in reversed(flow.sigmas(100)):
            velocity(noise, sigma)
    assert list(dict.fromkeys(clock.step for clock in clocks.seen)) == list(range(100, -1, -1))


@pytest.mark.parametrize("dtype", LOW, ids=str)
@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_times_alone_tell_the_step_while_they_differ_in_low_precision(
    dtype: torch.dtype, twice: bool, shift: float
) -> None:
    for count in range(1, 61):
        even = torch.linspace(1, 1 / count, count, dtype=torch.float64)
        times = 1000 * shift * even / (1 + (shift - 1) * even)
        schedule = Schedule(times.tolist())
        schedule.refresh()
        given = times.to(dtype) / 1000 if twice else (times / 1000).to(dtype)
        if len(given.unique()) == count:
            assert [schedule.clock(t, 1000).step for t in given] == list(range(count)), count


@pytest.mark.parametrize(
    ("scale", "offset", "dtypes"), [(-1000.0, 1000.0, DTYPES), (1.0, 1.0, (torch.float32,))], ids=["ideogram4", "glm"]
)
def test_times_that_run_the_other_way_or_are_shifted_are_found(
    scale: float, offset: float, dtypes: tuple[torch.dtype, ...]
) -> None:
    """Ideogram 4 receives one minus the share of noise, in its own precision; GLM-Image a time less one."""
    times = torch.linspace(1000, 20, 50)
    for dtype in dtypes:
        schedule = Schedule(times.tolist())
        schedule.refresh()
        for step, time in enumerate(times):
            assert schedule.clock(((time - offset) / scale).to(dtype), scale, offset).step == step
