"""How well a video pipeline keeps its captions: held-out prompts, fixed seeds, the parser as judge of every frame."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from jaxtyping import UInt8

from saccade.data.scenes import Video, VideoPrompt, VideoVerdict, describe_video, judge_video, rates
from saccade.train.autoencoder import reconstruct
from saccade.train.pictures import clips, videos
from saccade.train.plots import tile
from saccade.train.video_sampling import draw_videos

COUNTS = (1, 2)
CAPTION_SEED = 2024


def evaluate_videos(
    pipe: WanPipeline,
    captions: int,
    *,
    steps: int,
    frames: int = 9,
    side: int = 48,
    seed: int = 0,
    text_tokens: int = 32,
    guidance: float = 1.0,
    counts: tuple[int, ...] = COUNTS,
) -> dict[str, object]:
    """Rates of kept promises for each number of things, over so many held-out prompts each.

    Returns, by count, the rates of `video_rates`, and how it was measured.
    """
    started = time.perf_counter()
    given: dict[str, Any] = {"steps": steps, "frames": frames, "side": side, "seed": seed}
    given |= {"text_tokens": text_tokens, "guidance": guidance}
    scheduler = {name: pipe.scheduler.config[name] for name in ("shift", "stochastic_sampling")}
    found: dict[str, object] = {**given, **scheduler, "captions": captions, "split": "held-out"}
    for count in counts:
        _, wanted = held_out(captions, frames=frames, count=count)
        drawn = draw_videos(pipe, [prompt.text for prompt in wanted], **given)
        verdicts = [judge_video([*video], prompt) for video, prompt in zip(drawn, wanted, strict=True)]
        found[f"things={count}"] = video_rates(verdicts)
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def evaluate_autoencoder(
    vae: AutoencoderKLWan, captions: int, *, frames: int = 9, side: int = 48, counts: tuple[int, ...] = COUNTS
) -> dict[str, object]:
    """The same of rendered held-out videos through the autoencoder and back: the most that a transformer can reach."""
    found: dict[str, object] = {"frames": frames, "side": side, "captions": captions, "split": "held-out"}
    for count in counts:
        drawn, wanted = held_out(captions, frames=frames, count=count)
        made = reconstruct(vae, clips(drawn, side))
        verdicts = [judge_video([*video], prompt) for video, prompt in zip(made, wanted, strict=True)]
        found[f"things={count}"] = video_rates(verdicts)
    return found


def held_out(n: int, *, frames: int, count: int, seed: int = CAPTION_SEED) -> tuple[list[Video], list[VideoPrompt]]:
    """`n` held-out videos and captions of them."""
    rng = np.random.default_rng(seed + count)
    drawn = videos(n, seed=seed + count, frames=frames, counts=(count,), split="held-out")
    return drawn, [describe_video(video, rng) for video in drawn]


def video_rates(verdicts: Sequence[VideoVerdict]) -> dict[str, float | None]:
    """Mean verdict: of the first frame by kind of promise (None where nothing is promised), and of the whole video.

    `end`: last frames with everything kept; `motion`: things that move as said; `steady`: frames that show what is
    named; `all`: videos with everything kept.
    """
    start = {
        name: None if rate != rate else round(rate, 4) for name, rate in rates([v.start for v in verdicts]).items()
    }
    start["start"] = start.pop("all")
    whole = {name: [getattr(v, name) for v in verdicts] for name in ("motion", "steady", "all")}
    whole["end"] = [v.end.all for v in verdicts]
    return start | {name: round(float(np.mean(values)), 4) for name, values in whole.items()}


def video_sheet(
    pipe: WanPipeline, *, steps: int, frames: int = 9, side: int = 48, rows: int = 8, guidance: float = 1.0
) -> UInt8[np.ndarray, "h w 3"]:
    """Held-out captions, a video a row: three of four rows with one thing, then those with two."""
    counts = ((1, rows - rows // 4), (2, rows // 4))
    texts = [p.text for count, n in counts for p in held_out(n, frames=frames, count=count, seed=7)[1]]
    drawn = draw_videos(pipe, texts, steps=steps, frames=frames, side=side, guidance=guidance)
    return tile([*np.concatenate(drawn)], columns=frames)
