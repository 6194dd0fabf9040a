"""Sampling: DDIM and guidance by their formulas, seeds, batches, pictures of any size, and what observers did."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saccade.metrics.trajectories import DispersionThreshold, NoFixationError
from saccade.papers import ColourEdges, DiffEyePipeline
from saccade.papers.diffeye.coordinates import to_pixels, to_unit
from saccade.papers.diffeye.observers import Observers
from saccade.runs.gaussian import Chain
from tests.papers.diffeye.plain import tiny

ENCODER = ColourEdges(grid=(4, 4), pixels=(32, 32))
PICTURES = [np.random.default_rng(seed).random((40, 60, 3)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def pipe() -> DiffEyePipeline:
    return DiffEyePipeline(tiny(features=8).float(), ENCODER)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ddim(pipe: DiffEyePipeline, image: Tensor, shown: bool, steps: int, seed: int) -> Tensor:
    """Formula 12 of DDIM at eta 0, from the noisiest step on in even strides."""
    kept = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64), 0)
    z = torch.randn((len(image), 16, 2), generator=seeded(seed))
    times = [round(1000 - 1000 / steps * i) - 1 for i in range(steps)]
    condition = {"image": image, "shown": torch.full((len(image),), shown)}
    for now, then in zip(times, [*times[1:], None], strict=True):
        eps = pipe.model(z, torch.full((len(z),), float(now)), condition).out
        a, b = kept[now], torch.tensor(1.0) if then is None else kept[then]
        clean = (z - (1 - a).sqrt() * eps) / a.sqrt()
        z = (b.sqrt() * clean + (1 - b).sqrt() * eps).float()
    return z


@pytest.mark.parametrize(("guidance", "shown"), [(1.0, True), (0.0, False)])
@torch.no_grad()
def test_guidance_of_one_is_the_condition_and_of_zero_nothing(
    pipe: DiffEyePipeline, guidance: float, shown: bool
) -> None:
    image = torch.cat([pipe.encode(picture[None].astype(np.float32)) for picture in PICTURES])
    found = pipe.sample(image, steps=5, guidance=guidance, generator=seeded())
    torch.testing.assert_close(found, ddim(pipe, image, shown, 5, 0), atol=2e-3, rtol=1e-3)


@torch.no_grad()
def test_guidance_leads_away_from_nothing(pipe: DiffEyePipeline) -> None:
    image = pipe.encode(PICTURES[0][None].astype(np.float32))
    z, t = torch.randn(1, 16, 2, generator=seeded()), torch.tensor([500.0])
    yes, no = (pipe.model(z, t, {"image": image, "shown": torch.tensor([each])}).out for each in (True, False))
    torch.testing.assert_close(pipe._predict(image, 2.5)(z, t), no + 2.5 * (yes - no), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_same_seed_gives_the_same_observers(pipe: DiffEyePipeline, sampler: Any) -> None:
    options: dict[str, Any] = {"observers": 3, "steps": 3, "sampler": sampler}
    one, same, other = (pipe(PICTURES, generator=seeded(seed), **options) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.unit, same.unit)
    assert one.unit.shape == (2, 3, 16, 2) and not np.array_equal(one.unit, other.unit)
    assert not np.allclose(one.unit[0, 0], one.unit[0, 1])


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_estimates_may_be_kept_inside_the_picture(pipe: DiffEyePipeline, sampler: Any) -> None:
    image = pipe.encode(PICTURES[0][None].astype(np.float32))
    free, kept = (pipe.sample(image, steps=3, sampler=sampler, clip=clip, generator=seeded()) for clip in (None, 1.0))
    assert kept.abs().max() <= 1 + 1e-6 < free.abs().max()


def test_batches_change_nothing_and_rows_are_independent(pipe: DiffEyePipeline) -> None:
    image = torch.cat([pipe.encode(picture[None].astype(np.float32)) for picture in PICTURES])
    whole, parted = (pipe.sample(image, steps=3, batch=batch, generator=seeded()) for batch in (64, 1))
    torch.testing.assert_close(whole, parted, atol=1e-4, rtol=1e-4)
    changed = pipe.sample(image[[0, 0]], steps=3, generator=seeded())
    torch.testing.assert_close(whole[0], changed[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(whole[1], changed[1], atol=1e-4)


def test_progress_is_reported(pipe: DiffEyePipeline) -> None:
    seen: list[tuple[int, int]] = []
    pipe(PICTURES[:1], observers=1, steps=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_positions_at_the_estimate_are_an_option(pipe: DiffEyePipeline) -> None:
    other = DiffEyePipeline(pipe.model, ENCODER, estimate=True)
    one, two = (each(PICTURES[:1], observers=1, steps=3, generator=seeded()).unit for each in (pipe, other))
    assert not np.allclose(one, two)


def test_a_pipeline_is_stored_by_its_model(pipe: DiffEyePipeline, tmp_path: Path) -> None:
    pipe.model.save_pretrained(tmp_path)
    again = DiffEyePipeline.from_pretrained(tmp_path, ENCODER)
    one, two = (each(PICTURES[:1], observers=1, steps=2, generator=seeded()).unit for each in (pipe, again))
    np.testing.assert_array_equal(one, two)


def test_a_global_feature_is_the_summary() -> None:
    pipe = DiffEyePipeline(tiny(features=8, sees="global").float(), ENCODER)
    found = pipe(PICTURES[:1], observers=2, steps=2, generator=seeded())
    assert found.unit.shape == (1, 2, 16, 2)


def test_the_chain_is_that_of_training() -> None:
    pipe = DiffEyePipeline(tiny(features=8), ENCODER)
    kept = Chain().kept
    torch.testing.assert_close(pipe.scheduler().alphas_cumprod.double(), kept, atol=1e-6, rtol=0)
    assert float(kept[999]) == pytest.approx(4.04e-5, abs=5e-8)


def test_noising_has_the_mean_and_variance_of_the_chain() -> None:
    chain, x = Chain(), torch.tensor([[[0.5, -0.25]]]).expand(20000, 1, 2)
    noise = torch.randn(x.shape, generator=seeded())
    for step in (0, 300, 999):
        z, kept = chain.noised(x, noise, torch.full((len(x),), step)), float(chain.kept[step])
        torch.testing.assert_close(z.mean(0)[0], kept**0.5 * x[0, 0], atol=0.02, rtol=0)
        torch.testing.assert_close(z.var(0)[0], torch.full((2,), 1 - kept), atol=0.03, rtol=0)


def test_pixels_have_a_factor_for_each_side_and_come_back() -> None:
    points = np.array([[0.0, 0.0], [400.0, 150.0], [800.0, 600.0]])
    unit = to_unit(points, (800, 600))
    np.testing.assert_allclose(unit, [[-1, -1], [0, -0.5], [1, 1]])
    np.testing.assert_allclose(to_pixels(unit, (800, 600)), points)
    np.testing.assert_allclose(to_pixels(np.array([[-3.0, 0.0]]), (800, 600)), [[0, 300]])
    seen = Observers(unit=np.stack([unit, unit])[:, None], sizes=((800, 600), (80, 30)))
    np.testing.assert_allclose(seen.trajectories(0)[0], points)
    np.testing.assert_allclose(seen.trajectories(1)[0], points * (0.1, 0.05))


DETECT = DispersionThreshold(rate=100.0, pixels_per_degree=1.0, degrees=20.0, shortest_ms=100.0)


def rests_and_runs() -> Observers:
    """One observer who rests left and right, one who never rests; 20 samples a stop."""
    still = np.repeat([[-0.5, 0.0], [0.5, 0.0]], 20, axis=0)
    running = np.linspace((-1, -1), (1, 1), 40)
    return Observers(unit=np.stack([still, running])[None], sizes=((200, 100),))


def test_trajectories_become_scanpaths_and_saliency() -> None:
    seen = rests_and_runs()
    (scanpath,) = seen.scanpaths(DETECT, skip=True)
    np.testing.assert_allclose(scanpath.points, [[50, 50], [150, 50]])
    np.testing.assert_allclose(scanpath.durations, [200, 200])
    saliency = seen.saliency(DETECT, sigma=5)
    assert saliency.shape == (100, 200) and saliency.sum() == pytest.approx(1)
    assert saliency[50, 50] == pytest.approx(saliency.max(), rel=1e-6) and saliency[50, 100] < saliency.max() / 100


def test_observers_without_a_fixation_are_named_unless_skipped() -> None:
    seen = rests_and_runs()
    with pytest.raises(NoFixationError, match="finds no fixation in 40 samples"):
        seen.scanpaths(DETECT)
    nobody = Observers(unit=seen.unit[:, 1:], sizes=seen.sizes)
    with pytest.raises(NoFixationError, match="finds no fixation"):
        nobody.saliency(DETECT, sigma=5)


@pytest.mark.bad_input
def test_bad_input_is_named(pipe: DiffEyePipeline) -> None:
    with pytest.raises(ValueError, match="the encoder's features=3 is not the model's, 8; give the one"):
        DiffEyePipeline(pipe.model, ColourEdges(grid=(4, 4), pixels=(32, 32), edges=False))
    with pytest.raises(ValueError, match=r"the encoder's grid=\(2, 4\) is not the model's, \(4, 4\)"):
        DiffEyePipeline(pipe.model, ColourEdges(grid=(2, 4), pixels=(32, 32)))
    with pytest.raises(ValueError, match="pictures is empty"):
        pipe([])
    with pytest.raises(ValueError, match="observers=0 must be a whole number of at least 1"):
        pipe(PICTURES, observers=0)
    with pytest.raises(ValueError, match="sampler='euler' is unknown; choose one of ddim, ddpm"):
        pipe(PICTURES, sampler="euler")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"a picture of float64 \(5, 5\) must be"):
        pipe([np.zeros((5, 5))])
    broken = tiny(features=8).float()
    torch.nn.init.constant_(broken.leave.bias, torch.inf)
    with pytest.raises(ValueError, match="hold NaN|became NaN"):
        DiffEyePipeline(broken, ENCODER)(PICTURES[:1], observers=1, steps=2)
    with pytest.raises(ValueError, match=r"points\[1\]=\[900. 300.\] is outside size=\(800, 600\) by more than toler"):
        to_unit(np.array([[0.0, 0.0], [900.0, 300.0]]), (800, 600))
    assert to_unit(np.array([[810.0, 300.0]]), (800, 600))[0, 0] == pytest.approx(1.025)
