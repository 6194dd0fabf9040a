"""How well a pipeline keeps its captions: held-out prompts, fixed seeds, the scene parser as judge."""

import time
from collections.abc import Sequence
from math import isnan

import numpy as np
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from jaxtyping import UInt8

from saccade.data.scenes import Prompt, judge, prompts, rates
from saccade.train.plots import tile
from saccade.train.sampling import draw

COUNTS = (1, 2, 3)
CAPTION_SEED = 2024


def evaluate(
    pipe: FluxPipeline,
    captions: int,
    *,
    steps: int,
    side: int = 64,
    seed: int = 0,
    text_tokens: int = 32,
    guidance: float = 1.0,
) -> dict[str, object]:
    """Rates of kept promises for each number of things, over `captions` held-out prompts in all.

    Returns, by count, the share of promises kept of each kind and of pictures with all kept, and how it was measured.
    """
    started = time.perf_counter()
    given = {"steps": steps, "side": side, "seed": seed, "text_tokens": text_tokens, "guidance": guidance}
    scheduler = {name: pipe.scheduler.config[name] for name in ("shift", "stochastic_sampling")}
    found: dict[str, object] = {**given, **scheduler, "captions": captions, "split": "held-out"}
    for i, count in enumerate(COUNTS):
        share = captions // len(COUNTS) + (i < captions % len(COUNTS))
        wanted = prompts(share, seed=CAPTION_SEED + count, count=count, split="held-out")
        found[f"things={count}"] = {"captions": share, **score(draw(pipe, [p.text for p in wanted], **given), wanted)}
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def score(images: UInt8[np.ndarray, "b h w 3"], wanted: Sequence[Prompt]) -> dict[str, float | None]:
    """Mean verdict of pictures on their prompts; None where no prompt promises anything of that kind."""
    verdicts = [judge(image, prompt) for image, prompt in zip(images, wanted, strict=True)]
    return {name: None if isnan(rate) else round(float(rate), 4) for name, rate in rates(verdicts).items()}


def sample_sheet(pipe: FluxPipeline, *, steps: int, side: int = 64, seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """A row of eight held-out captions for each number of things."""
    texts = [prompt.text for n in COUNTS for prompt in prompts(8, seed=7 + n, count=n, split="held-out")]
    return tile([*draw(pipe, texts, steps=steps, side=side, seed=seed)], columns=8)
