"""Steps count from the first a generation takes, of those it takes, whatever scheduler and however many models."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXVideoToVideoPipeline,
    DDIMScheduler,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    PixArtAlphaPipeline,
    PNDMScheduler,
    StableDiffusion3Img2ImgPipeline,
    UniPCMultistepScheduler,
    WanPipeline,
    WanVideoToVideoPipeline,
)

from saccade.attach import Run, attach
from saccade.core.site import at
from saccade.papers.sparsed import SparseD
from saccade.run.schedule import Schedule
from tests.hosts.stand_ins import Masked
from tests.hosts.test_steps import Clocks
from tests.hosts.tiny import BY_NAME
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
STEPS, TAKEN = 6, 3  # of the schedule, and at strength 0.5
PICTURE = torch.full((1, 3, 32, 32), 0.5)
DRAWN = {"prompt": "a red circle", "height": 32, "width": 32, "max_sequence_length": 16}
UNIPC = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
Made = tuple[Any, dict[str, Any]]


def of(cls: Any, pipe: Any) -> Any:
    """The same parts in another pipeline."""
    return cls(**{name: part for name, part in pipe.components.items() if name in inspect.signature(cls).parameters})


def texts(shape: tuple[int, ...]) -> dict[str, Any]:
    return {name: torch.randn(shape) for name in ("prompt_embeds", "negative_prompt_embeds")}


def flux() -> Made:
    return of(FluxImg2ImgPipeline, tiny_flux()), {**DRAWN, "image": PICTURE}


def flux_inpainted() -> Made:
    return of(FluxInpaintPipeline, tiny_flux()), {**DRAWN, "image": PICTURE, "mask_image": torch.ones(1, 1, 32, 32)}


def sd3() -> Made:
    return of(StableDiffusion3Img2ImgPipeline, tiny_sd3()), {**DRAWN, "image": PICTURE}


def cogvideox() -> Made:
    """Its scheduler keeps no index."""
    pipe = CogVideoXVideoToVideoPipeline(None, None, None, BY_NAME["cogvideox"].shallow()[0], CogVideoXDDIMScheduler())
    return pipe, {**texts((1, 6, 16)), "height": 48, "width": 64, "latents": torch.randn(1, 3, 4, 6, 8)}


def wan() -> Made:
    """Its pipeline does not say where it begins."""
    model, _ = BY_NAME["wan"].shallow()
    pipe = WanVideoToVideoPipeline(None, None, model, None, UniPCMultistepScheduler(**UNIPC))
    return pipe, {**texts((1, 6, 16)), "height": 32, "width": 48, "latents": torch.randn(1, 4, 3, 4, 6)}


def two_models() -> Made:
    models = [BY_NAME["wan"].shallow()[0] for _ in range(2)]
    pipe = WanPipeline(None, None, None, UniPCMultistepScheduler(**UNIPC), *models, boundary_ratio=0.7)
    latents = torch.randn(1, 4, 3, 4, 6)
    return pipe, {**texts((1, 6, 16)), "height": 32, "width": 48, "num_frames": 9, "latents": latents}


def pixart(**scheduler: Any) -> Made:
    pipe = PixArtAlphaPipeline(None, None, None, BY_NAME["pixart"].shallow()[0], PNDMScheduler(**scheduler))
    masks = dict.fromkeys(("prompt_attention_mask", "negative_prompt_attention_mask"), torch.ones(1, 6))
    return pipe, {
        **texts((1, 6, 24)), **masks, "negative_prompt": None, "height": 64, "width": 64,
        "use_resolution_binning": False,
    }  # fmt: skip


def run(made: Made, *systems: Any, where: Any = None, times: int = 1, **options: Any) -> Run:
    pipe, call = made
    pipe.set_progress_bar_config(disable=True)
    with attach(pipe, *systems, **({} if where is None else {"where": where})) as attached:
        for clocks in systems:
            getattr(clocks, "seen", []).clear()  # attach asks for a few, to find errors early
        for _ in range(times):
            pipe(**call, **options, num_inference_steps=STEPS, output_type="latent")
    return attached


@pytest.mark.parametrize("make", (flux, flux_inpainted, sd3, cogvideox, wan))
def test_a_picture_made_from_another_counts_the_steps_it_takes(make: Callable[[], Made]) -> None:
    report = run(make(), asked := Clocks(), sparse := SparseD(keep=0.4, block=4), strength=0.5).report()
    assert list(dict.fromkeys(clock.step for clock in asked.seen)) == list(range(TAKEN))
    assert {(clock.num_steps, clock.first) for clock in asked.seen} == {(TAKEN, 0)}
    branches = report.forwards // TAKEN
    assert {s.calls for s in report.sites if not s.note} == {branches * (TAKEN - sparse.last_dense(TAKEN))}


def test_during_acts_on_a_share_of_the_steps_taken() -> None:
    report = run(flux(), Masked(), where=at(during=(0.0, 0.5)), strength=0.5).report()
    assert {site.calls for site in report.sites if not site.note} == {2} and report.forwards == TAKEN


def test_the_second_of_two_models_finds_its_pattern_when_it_begins() -> None:
    report = run(two_models(), asked := Clocks(), sparse := SparseD(keep=0.4, block=4)).report()
    begins = min(clock.step for clock in asked.seen if clock.first)
    assert {clock.num_steps for clock in asked.seen} == {STEPS} and 2 < begins < STEPS - 1
    assert all(clock.first == (begins if clock.step >= begins else 0) for clock in asked.seen)
    calls = {site.name.partition(".")[0]: site.calls for site in report.sites if not site.note}
    assert calls == {"blocks": 2 * (begins - sparse.last_dense(STEPS)), "transformer_2": 2 * (STEPS - begins)}


@pytest.mark.parametrize("skip", [True, False])
def test_a_scheduler_that_asks_twice_at_one_time_takes_two_steps(skip: bool) -> None:
    made = pixart(skip_prk_steps=skip)
    report = run(made, asked := Clocks(), sparse := SparseD(keep=0.4, block=4)).report()
    times = made[0].scheduler.timesteps.tolist()
    assert len(set(times)) < len(times)
    found = list(dict.fromkeys(asked.seen))
    assert [(clock.step, clock.timestep) for clock in found] == list(enumerate(times))
    assert {s.calls for s in report.sites if s.kind == "self"} == {len(times) - sparse.last_dense(len(times))}


def test_a_time_that_is_given_twice_by_hand_is_one_step() -> None:
    schedule = Schedule([900.0, 600.0, 600.0, 300.0])
    schedule.refresh()
    found = [schedule.clock(time, 1.0) for time in (900.0, 600.0, 600.0, 300.0)]
    assert [(clock.step, clock.num_steps) for clock in found] == [(0, 3), (1, 3), (1, 3), (2, 3)]


def test_a_walk_against_the_schedule_counts_all_of_it() -> None:
    scheduler = UniPCMultistepScheduler(**UNIPC)
    scheduler.set_timesteps(4)
    schedule = Schedule(scheduler)
    schedule.refresh()
    found = [schedule.clock(time, 1.0) for time in scheduler.timesteps.flip(0)]
    assert [(clock.step, clock.num_steps) for clock in found[1:]] == [(2, 4), (1, 4), (0, 4)]


def test_times_that_change_in_place_are_read_again() -> None:
    times = [900.0, 600.0]
    schedule = Schedule(times)
    assert schedule.refresh() and not schedule.refresh()
    times[1] = 300.0
    assert schedule.refresh() and schedule.times == (900.0, 300.0) and not schedule.refresh()


def test_a_scheduler_put_in_place_of_another_is_followed() -> None:
    pipe, call = pixart(skip_prk_steps=True)
    pipe.set_progress_bar_config(disable=True)
    with attach(pipe, asked := Clocks()):
        pipe.scheduler = DDIMScheduler()
        asked.seen.clear()
        pipe(**call, num_inference_steps=3, output_type="latent")
    assert [clock.step for clock in dict.fromkeys(asked.seen)] == [0, 1, 2]
    assert {clock.num_steps for clock in asked.seen} == {3}
