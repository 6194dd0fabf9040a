"""Blending of windows against plain loops in float64, conversions there and back, and the released solver's steps."""

from math import sqrt
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from saccade.runs import (
    Windows,
    blended,
    from_clean,
    rising_guidance,
    sample_windows,
    sde_dpmpp_2m,
    to_clean,
    triangle,
)
from saccade.runs.latent_blending import PredictionKind
from saccade.runs.windows import pairs, singles

GOLDEN = load_file(Path(__file__).parents[1] / "goldens" / "ditctrl" / "case_windows_and_steps.safetensors")
SOME = Windows(prompts=2, tile=5, overlap=2)
KINDS = get_args(PredictionKind)


def plain(found: list[Tensor], windows: Windows) -> Tensor:
    """Accumulate pair by pair, then divide."""
    weight, total = torch.zeros(windows.frames).double(), torch.zeros(windows.frames, 3).double()
    for k, pair in enumerate(found):
        for offset in range(2):
            for t in range(windows.tile):
                w = float(triangle(windows.tile)[t])
                total[(k + offset) * windows.stride + t] += w * pair[offset, t]
                weight[(k + offset) * windows.stride + t] += w
    return total / weight[:, None]


@given(st.integers(2, 4), st.integers(4, 7), st.integers(0, 3), st.integers(0, 2))
def test_blending_is_the_plain_loop(prompts: int, tile: int, overlap: int, transitions: int) -> None:
    windows = Windows(prompts=prompts, tile=tile, overlap=overlap, transitions=transitions)
    found = [torch.randn(2, tile, 3).double() for _ in pairs(windows)]
    torch.testing.assert_close(blended(found, windows), plain(found, windows), rtol=1e-6, atol=1e-6)


def test_windows_of_one_long_latent_give_it_back_and_frames_seen_once_are_copied() -> None:
    long = torch.randn(SOME.frames, 2, 3)
    parts = [torch.stack([long[SOME.span(k)] for k in visit]) for visit in pairs(SOME)]
    torch.testing.assert_close(blended(parts, SOME), long, rtol=0, atol=1e-6)
    found = [torch.randn(1, 5, 2) for _ in singles(SOME)]
    whole = blended(found, SOME, singles(SOME))
    assert torch.equal(whole[:3], found[0][0, :3]) and torch.equal(whole[-3:], found[-1][0, 2:])
    low, high = torch.minimum(found[0][0, 3:], found[1][0, :2]), torch.maximum(found[0][0, 3:], found[1][0, :2])
    assert ((low <= whole[3:5]) & (whole[3:5] <= high)).all()
    apart = Windows(prompts=3, tile=5, overlap=0, transitions=0)
    sides = [torch.randn(1, 5, 2) for _ in singles(apart)]
    assert torch.equal(blended(sides, apart, singles(apart)), torch.cat([side[0] for side in sides]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [1.0, 0.8, 0.3, 0.0])
def test_predictions_and_clean_latents_are_one(kind: Any, alpha: float) -> None:
    clean, noise = torch.randn(2, 3).double(), torch.randn(2, 3).double()
    sigma = 1 - alpha if kind == "flow_prediction" else sqrt(1 - alpha**2)
    x = alpha * clean + sigma * noise
    wanted = {
        "epsilon": noise,
        "flow_prediction": noise - clean,
        "sample": clean,
        "v_prediction": alpha * noise - sigma * clean,
    }
    level: dict[str, Any] = {"alpha": alpha, "sigma": sigma, "kind": kind}
    if kind == "epsilon" and alpha == 0:
        with pytest.raises(ValueError, match="alpha=0 leaves nothing to divide by; choose"):
            to_clean(noise, x, **level)
        return
    torch.testing.assert_close(to_clean(wanted[kind], x, **level), clean)
    if sigma == 0 and kind != "sample":
        with pytest.raises(ValueError, match="sigma=0.* leaves nothing to divide by"):
            from_clean(clean, x, **level)
    else:
        torch.testing.assert_close(from_clean(clean, x, **level), wanted[kind])


def test_sampling_blends_before_every_step_and_counts_its_calls() -> None:
    """Three steps of a model that shrinks what it sees by window and condition, against a loop."""
    noise, calls = torch.randn(SOME.frames, 3).double(), []

    def clean(x: Tensor, conditions: list[float], numbers: tuple[int, ...], step: int) -> Tensor:
        calls.append((numbers, tuple(conditions), step))
        factor = torch.tensor([c * (step + 1) for c in conditions]).double()
        return x * factor[:, None, None]

    def advance(x: Tensor, guess: Tensor, step: int) -> Tensor:
        return x + 0.5 * (guess - x)

    given_ = [0.1, 0.2, 0.3]
    found = sample_windows(clean, noise, SOME, given_, advance, steps=3)
    x = noise
    for step in range(3):
        parts = [torch.stack([x[SOME.span(w)] * given_[w] * (step + 1) for w in visit]) for visit in pairs(SOME)]
        x = x + 0.5 * (plain(parts, SOME) - x)
    torch.testing.assert_close(found, x, rtol=1e-6, atol=1e-6)
    assert calls == [(v, tuple(given_[w] for w in v), step) for step in range(3) for v in ((0, 1), (1, 2))]
    assert len(calls) == 3 * (SOME.count - 1)


def test_pairs_without_sharing_are_windows_by_themselves() -> None:
    noise = torch.randn(SOME.frames, 3).double()

    def clean(x: Tensor, conditions: list[float], numbers: tuple[int, ...], step: int) -> Tensor:
        return x.sin()

    def advance(x: Tensor, guess: Tensor, step: int) -> Tensor:
        return guess

    two, one = (
        sample_windows(clean, noise, SOME, [0, 1, 2], advance, steps=2, visits=visits(SOME))
        for visits in (pairs, singles)
    )
    assert (two - one).abs().max() < 0.5 and two.isfinite().all()
    again = sample_windows(clean, noise, SOME, [0, 1, 2], advance, steps=2)
    assert torch.equal(two, again)


def test_the_solver_takes_the_released_codes_steps() -> None:
    alphas = GOLDEN["alpha_cumprod_sqrt"].double().tolist()
    clean, noise, wanted = (GOLDEN[name] for name in ("x0_blended_steps01", "sde_noise_steps01", "x_after_steps01"))
    assert alphas[0] == 0 and alphas[-1] == 1
    first = sde_dpmpp_2m(GOLDEN["x_T"], clean[:1], noise[0], alpha=alphas[0], alpha_next=alphas[1])
    torch.testing.assert_close(first[0], wanted[0], rtol=0, atol=2e-6)
    given_: dict[str, Any] = {"before": clean[:1], "alpha_before": alphas[0]}
    second = sde_dpmpp_2m(first, clean[1:], noise[1], alpha=alphas[1], alpha_next=alphas[2], **given_)
    torch.testing.assert_close(second[0], wanted[1], rtol=0, atol=2e-6)


def test_from_pure_noise_a_step_is_the_forward_process_and_the_last_one_is_the_guess() -> None:
    x, clean, noise = (torch.randn(4).double() for _ in range(3))
    made = sde_dpmpp_2m(x, clean, noise, alpha=0.0, alpha_next=0.6)
    torch.testing.assert_close(made, 0.6 * clean + 0.8 * noise)
    assert torch.equal(sde_dpmpp_2m(x, clean, None, alpha=0.5, alpha_next=1.0, before=x, alpha_before=0.1), clean)
    still = sde_dpmpp_2m(0.5 * clean, clean, None, alpha=0.5, alpha_next=0.9, before=clean, alpha_before=0.0)
    h = torch.tensor(0.9 / sqrt(1 - 0.81)).log() - torch.tensor(0.5 / sqrt(0.75)).log()
    plain_ = sqrt(1 - 0.81) / sqrt(0.75) * (-h).exp() * 0.5 * clean - 0.9 * torch.expm1(-2 * h) * clean
    torch.testing.assert_close(still, plain_, rtol=1e-6, atol=1e-6)


@pytest.mark.host
def test_the_solver_is_cogvideoxs_scheduler() -> None:
    from diffusers import CogVideoXDPMScheduler

    scheduler = CogVideoXDPMScheduler(
        prediction_type="sample", rescale_betas_zero_snr=True, timestep_spacing="trailing", snr_shift_scale=3.0
    )
    scheduler.set_timesteps(5)
    kept = scheduler.alphas_cumprod.double().sqrt()
    alphas = [*(float(kept[t]) for t in scheduler.timesteps), 1.0]
    x = y = torch.randn(2, 3).double()
    old, before = None, None
    for i, t in enumerate(scheduler.timesteps[:-1]):
        clean = torch.randn(2, 3).double()
        back = scheduler.timesteps[i - 1] if i else None
        noise = torch.Generator().manual_seed(i)
        x, old = scheduler.step(clean, old, t, back, x, generator=noise, return_dict=False)
        draws = [torch.randn(2, 3, generator=noise.manual_seed(i), dtype=torch.float64)]
        draws.append(torch.randn(2, 3, generator=noise, dtype=torch.float64))
        more: dict[str, Any] = {} if before is None else {"before": before, "alpha_before": alphas[i - 1]}
        y = sde_dpmpp_2m(y, clean, draws[int(i > 0)], alpha=alphas[i], alpha_next=alphas[i + 1], **more)
        before = clean
        torch.testing.assert_close(y, x, rtol=1e-5, atol=1e-5)


def test_guidance_rises_by_steps_and_leaps_by_timesteps() -> None:
    rising = [rising_guidance(step, 50) for step in range(50)]
    assert rising[0] == 1 and rising == sorted(rising) and 6.5 < rising[-1] < 7
    leaping = [rising_guidance(i, 50, index="official", timestep=999 - 20 * i) for i in range(50)]
    assert leaping != sorted(leaping) and all(1 <= w <= 7 for w in leaping)
    for step, time in ((49, 19), (3, 939)):
        i = torch.tensor((50 - time) / 50, dtype=torch.float64) ** 5
        assert rising_guidance(step, 50, index="official", timestep=time) == pytest.approx(
            float(1 + 6 * (1 - torch.cos(torch.pi * i)) / 2), abs=1e-4
        )
    with pytest.raises(ValueError, match="index='official' needs the training timestep"):
        rising_guidance(0, 50, index="official")
    with pytest.raises(ValueError, match="index='sigma' is unknown; choose one of step, official"):
        rising_guidance(0, 50, index="sigma")  # type: ignore[arg-type]


@pytest.mark.bad_input
def test_what_does_not_fit_is_named() -> None:
    def clean(x: Tensor, *rest: Any) -> Tensor:
        return x[:, :3]

    def run(frames: int = 11, conditions: int = 3, windows: Windows = SOME, **more: Any) -> Tensor:
        given_ = {"steps": 1, **more}
        return sample_windows(clean, torch.zeros(frames, 2), windows, [0] * conditions, lambda x, c, i: x, **given_)

    with pytest.raises(ValueError, match="noise has 12 frames, 3 windows cover 11"):
        run(frames=12)
    with pytest.raises(ValueError, match="conditions are 2 for 3 windows; give one for each"):
        run(conditions=2)
    with pytest.raises(ValueError, match="one window is no pair: .*give two prompts or more"):
        run(windows=Windows(prompts=1, tile=11, overlap=2), conditions=1)
    with pytest.raises(ValueError, match="steps=0 must be a whole number of at least 1"):
        run(steps=0)
    with pytest.raises(ValueError, match=r"windows \(0, 1\) were answered by \(2, 3, 2\); \(2, 5\) frames are due"):
        run()
    x = torch.zeros(2)
    with pytest.raises(ValueError, match=r"levels=\(0.5, 0.4\) must rise strictly within \[0, 1\]"):
        sde_dpmpp_2m(x, x, x, alpha=0.5, alpha_next=0.4)
    with pytest.raises(ValueError, match="before and alpha_before belong together"):
        sde_dpmpp_2m(x, x, x, alpha=0.5, alpha_next=0.6, before=x)
    with pytest.raises(ValueError, match="kind='v' is unknown"):
        to_clean(x, x, alpha=0.5, sigma=0.5, kind="v")  # type: ignore[arg-type]
