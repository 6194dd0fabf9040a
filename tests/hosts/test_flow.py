"""A flow pipeline taken apart does what the pipeline does whole."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade import attach
from saccade.core.rows import Rows
from saccade.data.scenes import render, sample
from saccade.models import path
from saccade.papers import Dense
from saccade.pipelines.flow import Flow
from saccade.pipelines.loading import load_pipeline
from saccade.runs import invert_uni, sample_euler
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host

PROMPTS = ["a red circle", "a blue square left of a green cross"]
PIPES = {
    "flux": tiny_flux,
    "sd3": tiny_sd3,
    "sd3 shifted": lambda: tiny_sd3(use_dynamic_shifting=True),
    "sd3 by 3": lambda: tiny_sd3(shift=3.0),
}


def opened(name: str, height: int = 32, width: int = 40) -> Flow:
    return Flow(pipe=PIPES[name](), height=height, width=width, text_tokens=24)


def noise(flow: Flow) -> Tensor:
    h, w = flow.grid
    shape = (2, h * w, 16) if type(flow.pipe).__name__ == "FluxPipeline" else (2, 4, 2 * h, 2 * w)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", PIPES)
def test_sampling_by_its_velocity_is_what_the_pipeline_draws(name: str) -> None:
    flow = opened(name)
    given = {"height": 32, "width": 40, "num_inference_steps": 3, "max_sequence_length": 24, "output_type": "latent"}
    unguided = {} if name == "flux" else {"guidance_scale": 1.0}
    whole = flow.pipe(PROMPTS, latents=noise(flow), **given, **unguided).images
    assert flow.sigmas(3) == tuple(flow.pipe.scheduler.sigmas.tolist())
    pieces = sample_euler(flow.velocity(PROMPTS), noise(flow), flow.sigmas(3))
    assert torch.allclose(pieces, whole, rtol=1e-5, atol=1e-5)


def test_a_guidance_distilled_model_is_told_its_guidance() -> None:
    flow = opened("flux")
    received: list[Any] = []
    flow.pipe.transformer.register_to_config(guidance_embeds=True)
    flow.pipe.transformer.forward = lambda **given: (received.append(given["guidance"]), (given["hidden_states"],))[1]
    flow.velocity(PROMPTS, guidance=2.5)(noise(flow), 0.5)
    assert torch.equal(received[0], torch.full((2,), 2.5))


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_levels_leave_the_scheduler_alone(name: str) -> None:
    flow = opened(name)
    before = flow.pipe.scheduler.timesteps
    assert len(flow.sigmas(5)) == 6 and flow.sigmas(5)[-1] == 0
    assert flow.pipe.scheduler.timesteps is before


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_latents_are_the_mean_as_the_transformer_takes_them(name: str) -> None:
    flow = opened(name)
    vae = flow.pipe.vae.double()
    pictures = np.random.default_rng(0).random((2, 32, 40, 3))
    latents = flow.encode(pictures)
    assert latents.shape == noise(flow).shape
    with torch.no_grad():
        mean = vae.encode(2 * torch.tensor(pictures).movedim(-1, 1) - 1).latent_dist.mean
        direct = (vae.decode(mean).sample / 2 + 0.5).clamp(0, 1)
    assert np.allclose(flow.decode(latents), direct.movedim(1, -1).numpy(), atol=1e-6)


def test_a_rendered_scene_survives_the_autoencoder_of_the_model_bundled() -> None:
    flow = Flow(pipe=load_pipeline("scenes-flux"), height=64, width=64, text_tokens=32)
    picture = render(sample(np.random.default_rng(0)))[None] / 255
    assert float(np.mean((flow.decode(flow.encode(picture)) - picture) ** 2)) < 1e-3
    assert path("scenes-flux").is_dir()


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_attached_systems_see_every_level_of_an_inversion(name: str) -> None:
    flow = opened(name)
    clean, velocity = flow.encode(np.full((2, 32, 40, 3), 0.5)), flow.velocity(PROMPTS)
    rows = Rows.of("cond", samples=2)
    with attach(flow.pipe, Dense(kernel="reference"), rows=rows, schedule=flow.levels(3)) as run:
        seen: list[tuple[int, float | None]] = []

        def watched(z: Tensor, sigma: float) -> Tensor:
            out = velocity(z, sigma)
            assert run.clock is not None
            seen.append((run.clock.step, run.clock.sigma))
            return out

        invert_uni(watched, clean, flow.sigmas(3))
    assert seen == [(3 - i, sigma) for i, sigma in enumerate(flow.sigmas(3)[::-1])]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((36, 40), "height=36 must be a multiple of 8 pixels"), ((32, 4), "width=4 must be a multiple of 8 pixels")],
)
def test_sizes_that_no_token_grid_covers_are_named(sizes: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened("flux", *sizes)


def test_rows_may_be_guided_each_by_its_own() -> None:
    flow, given = opened("flux"), [1.0, 3.5]
    config = {**flow.pipe.transformer.config, "guidance_embeds": True}
    flow.pipe.transformer = type(flow.pipe.transformer).from_config(config).eval()
    z = noise(flow)
    both = flow.velocity(PROMPTS, guidance=given)(z, 1.0)
    alone = [flow.velocity(PROMPTS, guidance=value)(z, 1.0)[row] for row, value in enumerate(given)]
    assert torch.allclose(both, torch.stack(alone), atol=1e-6) and not torch.equal(both, flow.velocity(PROMPTS)(z, 1.0))
    with pytest.raises(ValueError, match=r"guidance=\(1.0, 3.5, 2.0\) gives 3 values for 2 prompts; give one for each"):
        flow.velocity(PROMPTS, guidance=[1.0, 3.5, 2.0])


def test_levels_without_the_clean_one_are_as_many_as_steps() -> None:
    flow = opened("flux")
    assert flow.levels(4, clean=False).sigmas.tolist() == pytest.approx(flow.sigmas(4)[:-1])
    assert len(flow.levels(4).sigmas) == 5


def test_what_cannot_be_run_backwards_is_named() -> None:
    with pytest.raises(ValueError, match="pipe=object is no flow pipeline that is known here; give a FluxPipeline or"):
        Flow(pipe=object(), height=32, width=32)
    with pytest.raises(ValueError, match="must be a deterministic FlowMatchEulerDiscreteScheduler"):
        Flow(pipe=tiny_sd3(stochastic_sampling=True), height=32, width=32)
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        opened("flux").sigmas(0)
    with pytest.raises(ValueError, match=r"pictures of \(16, 16\) pixels must be \(32, 40\); resize them"):
        opened("flux").encode(np.zeros((1, 16, 16, 3)))
