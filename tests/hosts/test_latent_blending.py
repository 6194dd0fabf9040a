"""Latents kept in part: exact at every level, at the end, and for masks of all and of nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.pipelines.flow import Flow
from saccade.pipelines.latent_blending import LatentBlending
from saccade.pipelines.latents import encoded, latent_mask, start_noise
from saccade.runs import noised, with_known
from tests.tiny_fill import tiny_fill
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3

pytestmark = pytest.mark.host
MAKERS = {"flux": tiny_flux, "fill": tiny_fill, "sd3": tiny_sd3}
RNG = np.random.default_rng(0)
PICTURE = RNG.random((1, 32, 32, 3), dtype=np.float32)
MASK = np.zeros((32, 32), np.float32)
MASK[16:, 8:24] = 1
STEPS = 3
every_pipe = pytest.mark.parametrize("name", MAKERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sample(pipe: Any, blend: LatentBlending | None, output: str = "latent", seen: list[Tensor] | None = None) -> Any:
    """The pipeline's own call, with latents of every step put into `seen`."""

    def ended(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        found = tensors if blend is None else blend(pipe, step, time, tensors)
        if seen is not None:
            seen.append(found["latents"])
        return found

    fill = type(pipe).__name__ == "FluxFillPipeline"
    given = {"image": PICTURE, "mask_image": MASK[None, ..., None]} if fill else {}
    noise = start_noise(pipe, 32, 32, seeded()) if blend is None else blend.noise
    return pipe(
        "a red circle", height=32, width=32, num_inference_steps=STEPS, max_sequence_length=16, output_type=output,
        latents=noise, callback_on_step_end=ended, generator=seeded(1), **given,
    ).images  # fmt: skip


def test_the_rule_written_out() -> None:
    torch.manual_seed(0)
    x, clean, noise = torch.randn(3, 2, 5).unbind(0)
    free = torch.tensor([0.0, 1.0, 0.25, 0.0, 1.0]).expand(2, 5)
    made = with_known(x, clean, noise, 0.75, free)
    known = 0.25 * clean + 0.75 * noise
    torch.testing.assert_close(made, free * x + (1 - free) * known)
    assert torch.equal(made[:, [1, 4]], x[:, [1, 4]]) and torch.equal(
        made[:, [0, 3]], noised(clean, noise, 0.75)[:, [0, 3]]
    )
    assert torch.equal(noised(clean, noise, 0.0), clean) and torch.equal(noised(clean, noise, 1.0), noise)


@every_pipe
def test_outside_the_mask_latents_are_the_noised_picture_at_every_level_and_the_picture_at_the_end(name: str) -> None:
    pipe = MAKERS[name]()
    blend, seen = LatentBlending.of(pipe, PICTURE, MASK, seeded()), list[Tensor]()
    sample(pipe, blend, seen=seen)
    kept, sigmas = blend.free == 0, pipe.scheduler.sigmas
    assert 0 < kept.float().mean() < 1 and len(seen) == STEPS
    for step, latents in enumerate(seen):
        known = noised(blend.clean, blend.noise, float(sigmas[step + 1]))
        assert torch.equal(latents[kept], known[kept])
        assert not torch.equal(latents[~kept], known[~kept])
    assert torch.equal(seen[-1][kept], encoded(pipe, PICTURE)[kept])


@every_pipe
def test_a_mask_of_all_changes_nothing_and_one_of_nothing_gives_the_picture(name: str) -> None:
    pipe = MAKERS[name]()
    everywhere, nowhere = (LatentBlending.of(pipe, PICTURE, np.full_like(MASK, x), seeded()) for x in (1, 0))
    assert torch.equal(sample(pipe, everywhere), sample(pipe, None))
    assert torch.equal(sample(pipe, nowhere), encoded(pipe, PICTURE))


def test_the_noise_is_what_the_pipelines_themselves_start_from() -> None:
    for make in (tiny_flux, tiny_sd3):
        pipe = make()
        assert torch.equal(start_noise(pipe, 32, 32, seeded(3)), Flow(pipe=pipe, height=32, width=32).noise(3))
        assert torch.equal(encoded(pipe, PICTURE), Flow(pipe=pipe, height=32, width=32).encode(PICTURE))


def test_a_mask_is_spread_over_the_channels_of_each_latent_pixel() -> None:
    """Four channels are 2 x 2 cells of 2 x 2 pixels each; tokens pack 2 x 2 latent pixels, channel by channel."""
    pipe = tiny_sd3()
    mask = np.zeros((32, 32), np.float32)
    mask[4:6, 10:12] = 1  # the upper right cell of latent pixel (1, 2)
    mask[8, 0] = 1  # a quarter of the upper left cell of latent pixel (2, 0)
    cells = latent_mask(pipe, mask)
    assert cells.shape == (1, 4, 8, 8) and cells[0, :, 1, 2].tolist() == [0, 1, 0, 0]
    assert cells[0, :, 2, 0].tolist() == [0.25, 0, 0, 0] and cells.sum() == 1.25
    area = latent_mask(pipe, mask, "area")
    assert (area[0, :, 1, 2] == 0.25).all() and (area[0, :, 2, 0] == 1 / 16).all()
    flux = tiny_flux()
    assert torch.equal(latent_mask(flux, mask), flux._pack_latents(cells, 1, 4, 8, 8))


def test_a_mask_of_a_half_never_reaches_into_the_other() -> None:
    lower = np.zeros((32, 32), np.float32)
    lower[16:] = 1
    for rule in ("cells", "area"):
        found = latent_mask(tiny_sd3(), lower, rule)
        assert not found[:, :, :4].any() and found[:, :, 4:].eq(1).all()


@pytest.mark.bad_input
def test_what_does_not_fit_is_named() -> None:
    pipe = tiny_flux()
    with pytest.raises(ValueError, match=r"mask \(16, 32\) must be of the picture's size, \(32, 32\)"):
        LatentBlending.of(pipe, PICTURE, MASK[16:], seeded())
    with pytest.raises(ValueError, match=r"mask \(30, 32\) must be \(h w\) in \[0, 1\], its sides multiples of 4"):
        latent_mask(pipe, MASK[2:])
    with pytest.raises(ValueError, match="rule='tiles' is unknown; choose one of cells, area"):
        latent_mask(pipe, MASK, "tiles")  # type: ignore[arg-type]
    zeros = torch.zeros(1, 4, 2)
    with pytest.raises(ValueError, match="must have one shape"):
        LatentBlending(clean=zeros, noise=zeros, free=zeros[:, :2])
    from diffusers import FlowMatchHeunDiscreteScheduler

    pipe.scheduler = FlowMatchHeunDiscreteScheduler()
    with pytest.raises(ValueError, match="FlowMatchHeunDiscreteScheduler, must be a FlowMatchEulerDiscreteScheduler"):
        LatentBlending.of(pipe, PICTURE, MASK, seeded())
