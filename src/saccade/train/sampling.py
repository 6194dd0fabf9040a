"""Pictures from a FLUX pipeline with a seed for each caption, so that no picture depends on how they are batched."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import FluxPipeline
from jaxtyping import UInt8

TOKENS = 4096  # image tokens of one call


def draw(
    pipe: FluxPipeline,
    texts: Sequence[str],
    *,
    steps: int,
    side: int = 64,
    seed: int = 0,
    text_tokens: int = 32,
    guidance: float = 1.0,
) -> UInt8[np.ndarray, "b side side 3"]:
    """A picture of `side` pixels for each text, the i-th from seed `seed + i`, by plain calls of the pipeline.

    `guidance` above 1 draws away from the empty caption (`true_cfg_scale`), at twice the cost.
    torch's own generator is seeded too: stochastic schedulers draw from it, so that their pictures depend on the batch.
    """
    options = {"max_sequence_length": text_tokens, "true_cfg_scale": guidance}
    return in_batches(pipe, texts, TOKENS * 64 // side**2, seed=seed, side=side, num_inference_steps=steps, **options)


def in_batches(
    pipe: Any, texts: Sequence[str], size: int, *, seed: int, side: int, **options: Any
) -> UInt8[np.ndarray, "b *t side side 3"]:
    """What a pipeline makes of the texts, at least one and at most `size` in a call, away from the empty caption."""
    torch.manual_seed(seed)
    size = max(1, size)
    pipe.set_progress_bar_config(disable=True)
    parts = []
    for start in range(0, len(texts), size):
        batch = list(texts[start : start + size])
        made = pipe(
            batch,
            height=side,
            width=side,
            negative_prompt=[""] * len(batch),
            generator=[torch.Generator().manual_seed(seed + start + i) for i in range(len(batch))],
            output_type="np",
            **options,
        )
        parts.append((np.asarray(made[0]) * 255).round().astype(np.uint8))
    return np.concatenate(parts)
