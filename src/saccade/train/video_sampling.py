"""Videos from a Wan pipeline with a seed for each caption, so that no video depends on how they are batched."""

from collections.abc import Sequence

import numpy as np
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from jaxtyping import UInt8

from saccade.train.sampling import in_batches

PIXELS = 48 * 48 * 9 * 16  # of one call


def draw_videos(
    pipe: WanPipeline,
    texts: Sequence[str],
    *,
    steps: int,
    frames: int = 9,
    side: int = 48,
    seed: int = 0,
    text_tokens: int = 32,
    guidance: float = 1.0,
) -> UInt8[np.ndarray, "b t side side 3"]:
    """A video for each text, the i-th from seed `seed + i`, by plain calls of the pipeline.

    `frames`: 1 above a multiple of 4; `side`: in pixels, a multiple of 16.
    `guidance` above 1 draws away from the empty caption, at twice the cost.
    torch's own generator is seeded too: stochastic schedulers draw from it, so that their videos depend on the batch.
    """
    options = {"num_frames": frames, "max_sequence_length": text_tokens, "guidance_scale": guidance}
    return in_batches(
        pipe, texts, PIXELS // (side**2 * frames), seed=seed, side=side, num_inference_steps=steps, **options
    )
