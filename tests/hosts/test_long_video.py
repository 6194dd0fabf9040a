"""Video pipelines in pieces: a window is what the pipeline draws, windows are blended, passes are as many as said."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch._dynamo.utils import counters

from saccade.attach import attach
from saccade.core.rows import Rows
from saccade.core.site import Where
from saccade.papers.ditctrl import DiTCtrl
from saccade.pipelines.long_video import LongVideo
from saccade.pipelines.video import VideoParts
from saccade.runs import Windows
from tests.tiny_sd3 import tiny_sd3
from tests.tiny_videos import tiny_cogvideox, tiny_hunyuan, tiny_wan

pytestmark = pytest.mark.host
PROMPTS = ("a red circle moving right", "a blue circle moving right")
COG = {"prediction_type": "v_prediction", "timestep_spacing": "trailing", "snr_shift_scale": 3.0}
UNIPC = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
CASES = {
    "dpm": (tiny_cogvideox, CogVideoXDPMScheduler(rescale_betas_zero_snr=True, **COG)),
    "ddim": (tiny_cogvideox, CogVideoXDDIMScheduler(rescale_betas_zero_snr=True, **COG)),
    "epsilon": (tiny_cogvideox, CogVideoXDDIMScheduler(**{**COG, "prediction_type": "epsilon"})),
    "sample": (tiny_cogvideox, CogVideoXDPMScheduler(**{**COG, "prediction_type": "sample"})),
    "rotary": (lambda: tiny_cogvideox(rotary=True), CogVideoXDPMScheduler(**COG)),
    "euler": (tiny_wan, FlowMatchEulerDiscreteScheduler(shift=3.0)),
    "stochastic": (tiny_wan, FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)),
    "unipc": (tiny_wan, UniPCMultistepScheduler(**UNIPC)),
    "hunyuan": (tiny_hunyuan, FlowMatchEulerDiscreteScheduler(shift=7.0)),
}


def opened(name: str) -> VideoParts:
    make, scheduler = CASES[name]
    pipe = make()
    pipe.scheduler = type(scheduler).from_config(scheduler.config)
    return VideoParts(pipe=pipe, height=32, width=32, tile=3, text_tokens=16)


def long(parts: VideoParts, **given: Any) -> LongVideo:
    own: dict[str, Any] = {
        "windows": Windows(prompts=2, tile=3, overlap=1), "prompts": PROMPTS, "negatives": ("", ""), "steps": 3,
        "guidance": 4.0, "paired": False,
    }  # fmt: skip
    return LongVideo(parts=parts, **{**own, **given})


@pytest.mark.parametrize("name", CASES)
def test_one_window_is_what_the_pipeline_draws(name: str) -> None:
    parts = opened(name)
    one = {"windows": Windows(prompts=1, tile=3, overlap=1), "prompts": PROMPTS[:1], "negatives": ("",)}
    found = long(parts, **one).video(3)
    given = {"true_cfg_scale": 4.0, "negative_prompt": ""} if name == "hunyuan" else {"guidance_scale": 4.0}
    wanted = parts.pipe(
        PROMPTS[0], height=32, width=32, num_frames=1 + 2 * parts.factor, num_inference_steps=3, max_sequence_length=16,
        generator=torch.Generator().manual_seed(3), output_type="np", **given,
    ).frames[0]  # fmt: skip
    if name == "stochastic":  # the pipeline leaves this noise to torch's own generator
        assert found.shape == wanted.shape and np.isfinite(found).all()
    else:
        np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_a_distilled_model_reads_its_scale_and_runs_one_branch() -> None:
    pipe, seen = tiny_hunyuan(), []
    hook = pipe.transformer.register_forward_pre_hook(
        lambda module, args, given: seen.append(given["guidance"].tolist()), with_kwargs=True
    )
    given: dict[str, Any] = {"windows": Windows(prompts=1, tile=3, overlap=1), "prompts": PROMPTS[:1]}
    for scale in (None, 2.0):
        parts = VideoParts(pipe=pipe, height=32, width=32, tile=3, text_tokens=16, embedded_guidance=scale)
        found = long(parts, **given, negatives=("",), guidance=1.0, steps=2).video(0)
    wanted = pipe(
        PROMPTS[0], height=32, width=32, num_frames=9, num_inference_steps=2, max_sequence_length=16,
        guidance_scale=2.0, generator=torch.Generator().manual_seed(0), output_type="np",
    ).frames[0]  # fmt: skip
    hook.remove()
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    assert seen == [[6000.0]] * 2 + [[2000.0]] * 4


def test_windows_between_prompts_read_the_tokens_of_both() -> None:
    """HunyuanVideo says which tokens are text: a window of two prompts has as many as the longer one."""
    parts = opened("hunyuan")
    made = long(parts, prompts=("a red circle", PROMPTS[1]), paired=True)
    counts = [int(given["encoder_attention_mask"].sum()) for given, _ in made._conditions]
    assert counts == [10, 12, 12] and len({made.video(0).std(), long(parts, paired=True).video(0).std()}) == 2


@pytest.mark.parametrize("name", ["dpm", "unipc"])
def test_levels_are_those_of_the_scheduler_and_conversions_go_there_and_back(name: str) -> None:
    parts = opened(name)
    parts.begin(4)
    clean, noise = torch.randn(3, 4, 4, 4), torch.randn(3, 4, 4, 4)
    levels = [parts.level(step) for step in range(5)]
    assert levels[-1] == (1.0, 0.0) and [a for a, _ in levels] == sorted(a for a, _ in levels)
    if name == "dpm":
        assert levels[0] == (0.0, 1.0)
    for step, (alpha, sigma) in enumerate(levels[1:-1], start=1):
        x = alpha * clean + sigma * noise
        prediction = noise - clean if name == "unipc" else alpha * noise - sigma * clean
        torch.testing.assert_close(parts.clean(prediction, x, step), clean, rtol=1e-4, atol=1e-4)


def test_the_papers_solver_is_cogvideoxs_own_but_for_the_noise() -> None:
    """Without noise both are the same: the first step comes from pure noise, so noise is all they differ in."""
    parts = opened("dpm")
    ours, theirs = (long(parts, solver=solver).video(0) for solver in ("sde_dpmpp_2m", "pipeline"))
    assert ours.shape == theirs.shape and np.isfinite(ours).all() and not np.array_equal(ours, theirs)
    with pytest.raises(ValueError, match="needs alphas, FlowMatchEulerDiscreteScheduler has sigmas"):
        opened("euler").check_alphas()


@pytest.mark.parametrize(("guidance", "rows"), [(4.0, 4), (1.0, 2)])
def test_passes_of_a_step_are_one_less_than_windows(guidance: float, rows: int) -> None:
    parts, seen = opened("dpm"), []
    hook = parts.pipe.transformer.register_forward_pre_hook(
        lambda module, args, given: seen.append(len(given["hidden_states"])), with_kwargs=True
    )
    made = long(parts, paired=True, guidance=guidance, steps=2)
    made.video(0)
    hook.remove()
    assert made.windows.count == 3 and seen == [rows] * 2 * 2


def test_branches_in_turn_are_two_passes_of_two_rows() -> None:
    parts, seen = opened("euler"), []
    hook = parts.pipe.transformer.register_forward_pre_hook(
        lambda module, args, given: seen.append(len(given["hidden_states"])), with_kwargs=True
    )
    long(parts, paired=True, steps=2).video(0)
    hook.remove()
    assert seen == [2] * 2 * 2 * 2


def test_without_sharing_pairs_are_single_windows() -> None:
    parts = opened("euler")
    two, one = (
        long(parts, paired=paired, windows=Windows(prompts=2, tile=3, overlap=1, transitions=0))
        for paired in (True, False)
    )
    np.testing.assert_allclose(two.video(0), one.video(0), atol=1e-4)


def test_windows_side_by_side_are_videos_of_their_own() -> None:
    parts = opened("euler")
    apart = long(parts, windows=Windows(prompts=2, tile=3, overlap=0, transitions=0))
    video = apart.video(1)
    assert video.shape == (10, 32, 32, 3) and apart.segments() == (slice(0, 5), slice(5, 10))
    parts.begin(3)
    noise = parts.noise(6, torch.Generator().manual_seed(1))
    for half, prompt in enumerate(PROMPTS):
        wanted = parts.pipe(
            prompt, height=32, width=32, num_frames=5, num_inference_steps=3, guidance_scale=4.0,
            max_sequence_length=16, latents=noise[3 * half : 3 * half + 3].transpose(0, 1)[None], output_type="np",
        ).frames[0]  # fmt: skip
        np.testing.assert_allclose(video[5 * half : 5 * half + 5], wanted, atol=2e-4)


def test_frames_of_latents_and_segments() -> None:
    parts = opened("euler")
    assert [parts.shown(s) for s in (slice(0, 1), slice(0, 3), slice(2, 5))] == [slice(0, 1), slice(0, 5), slice(3, 9)]
    made = long(parts)
    segments = made.segments()
    assert (segments[0].start, segments[-1].stop) == (0, len(made.video(0))) and segments[0].stop == segments[1].start


def test_guidance_may_rise() -> None:
    parts = opened("dpm")
    constant, rising, official = (
        long(parts, schedule=schedule).video(0) for schedule in ("constant", "rising", "official")
    )
    assert not np.array_equal(constant, rising) and not np.array_equal(rising, official)
    assert np.array_equal(rising, long(parts, schedule="rising").video(0))


@pytest.mark.compile
def test_a_compiled_model_has_no_graph_for_each_window() -> None:
    torch._dynamo.reset()
    parts, system = opened("euler"), DiTCtrl(deepest=1.0, words=(2,), threshold=0.4)
    options: dict[str, Any] = {"where": Where(kinds=("self", "cross")), "rows": Rows.of("source", "target")}
    with attach(parts.pipe, system, **options) as run:
        eager = long(parts, paired=True, run=run).video(0)
    parts.pipe.transformer = torch.compile(parts.pipe.transformer, fullgraph=True, backend="eager")
    counters.clear()
    with attach(parts.pipe, system, **options) as run:
        found = long(parts, paired=True, run=run).video(0)
    np.testing.assert_allclose(found, eager, atol=1e-4)
    assert counters["stats"]["unique_graphs"] <= 4  # without sharing, and with it in either branch, masks first or kept


@pytest.mark.bad_input
def test_what_is_not_known_is_named() -> None:
    with pytest.raises(
        ValueError, match="StableDiffusion3Pipeline is no video pipeline that is known here; give a Cog"
    ):
        VideoParts(pipe=tiny_sd3())
    for given, message in (
        ({"height": 20}, "height=20 must be a multiple of 8 pixels"),
        ({"width": 4}, "width=4 must be a multiple of 8 pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            VideoParts(pipe=tiny_wan(), **{"height": 32, "width": 32, "tile": 3, **given})
    with pytest.raises(
        ValueError, match="embedded_guidance=3.0 is read by distilled models, as HunyuanVideo's, and Wan"
    ):
        VideoParts(pipe=tiny_wan(), height=32, width=32, tile=3, embedded_guidance=3.0)
    pipe = tiny_wan()
    pipe.scheduler = DPMSolverMultistepScheduler()
    with pytest.raises(ValueError, match="the scheduler DPMSolverMultistepScheduler is not known here; give a flow"):
        VideoParts(pipe=pipe, height=32, width=32, tile=3)
    pipe = tiny_wan()
    pipe.register_to_config(expand_timesteps=True)
    with pytest.raises(ValueError, match="gives every token a time of its own"):
        VideoParts(pipe=pipe, height=32, width=32, tile=3)


def test_sizes_are_the_pipelines_own() -> None:
    cog, wan, hunyuan = (VideoParts(pipe=make()) for make in (tiny_cogvideox, tiny_wan, tiny_hunyuan))
    assert (hunyuan.size, hunyuan.frames, hunyuan.side, hunyuan.stacked) == ((720, 1280), 33, 16, False)
    assert (cog.size, cog.frames, cog.side, cog.stacked) == ((32, 32), 3, 16, True)
    assert (wan.size, wan.frames, wan.side, wan.stacked) == ((480, 832), 1 + 80 // wan.factor, 8, False)
    read = [parts.texts(PROMPTS)["encoder_hidden_states"] for parts in (cog, wan)]
    assert [tuple(words.shape) for words in read] == [(2, 226, 32), (2, 512, 32)]
