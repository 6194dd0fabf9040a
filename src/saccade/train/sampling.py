"""Pictures from a FLUX pipeline with a seed for each caption, so that no picture depends on how they are batched."""

from collections.abc import Sequence

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
    torch.manual_seed(seed)
    size = max(1, TOKENS * 64 // side**2)
    pipe.set_progress_bar_config(disable=True)
    parts = []
    for start in range(0, len(texts), size):
        batch = list(texts[start : start + size])
        made = pipe(
            batch,
            num_inference_steps=steps,
            height=side,
            width=side,
            max_sequence_length=text_tokens,
            negative_prompt=[""] * len(batch),
            true_cfg_scale=guidance,
            generator=[torch.Generator().manual_seed(seed + start + i) for i in range(len(batch))],
            output_type="np",
        )
        parts.append((np.asarray(made.images) * 255).round().astype(np.uint8))  # type: ignore[union-attr]
    return np.concatenate(parts)
