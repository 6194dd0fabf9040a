"""How well a pipeline keeps its captions: held-out prompts, fixed seeds, the scene parser as judge."""

import time
from collections.abc import Sequence

import numpy as np
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from jaxtyping import UInt8

from saccade.data.scenes import Prompt, judge, prompts, rates
from saccade.train.plots import tile
from saccade.train.sampling import draw

COUNTS = (1, 2, 3)
CAPTION_SEED = 2024


def evaluate(
    pipe: FluxPipeline, captions: int, *, steps: int, side: int = 64, seed: int = 0, counts: Sequence[int] = COUNTS
) -> dict[str, object]:
    """Rates of kept promises for each number of things, over `captions` held-out prompts in all.

    Returns, by count, the share of promises kept of each kind and of pictures with all kept, and how it was measured.
    """
    started = time.perf_counter()
    found: dict[str, object] = {"steps": steps, "side": side, "seed": seed, "captions": captions, "split": "held-out"}
    for i, count in enumerate(counts):
        share = captions // len(counts) + (i < captions % len(counts))
        wanted = prompts(share, seed=CAPTION_SEED + count, count=count, split="held-out")
        found[f"things={count}"] = {"captions": share, **score(draw_all(pipe, wanted, steps, side, seed), wanted)}
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def draw_all(
    pipe: FluxPipeline, wanted: Sequence[Prompt], steps: int, side: int, seed: int = 0
) -> UInt8[np.ndarray, "b side side 3"]:
    """A picture for every prompt."""
    return draw(pipe, [prompt.text for prompt in wanted], steps=steps, side=side, seed=seed)


def score(images: UInt8[np.ndarray, "b h w 3"], wanted: Sequence[Prompt]) -> dict[str, float]:
    """Mean verdict of pictures on their prompts."""
    verdicts = [judge(image, prompt) for image, prompt in zip(images, wanted, strict=True)]
    return {name: round(float(rate), 4) for name, rate in rates(verdicts).items()}


def sample_sheet(pipe: FluxPipeline, *, steps: int, side: int = 64, seed: int = 0) -> UInt8[np.ndarray, "h w 3"]:
    """A row of eight held-out captions for each number of things."""
    wanted = [prompt for count in COUNTS for prompt in prompts(8, seed=7 + count, count=count, split="held-out")]
    return tile([*draw_all(pipe, wanted, steps, side, seed)], columns=8)
