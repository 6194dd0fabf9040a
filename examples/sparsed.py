"""Draw one caption with patterns of ever fewer blocks, on the bundled model: 256 image tokens, a minute or two.

python examples/sparsed.py
"""

import numpy as np
import torch
from diffusers import FluxPipeline

import saccade
from saccade.papers.sparsed import SparseD

CAPTION = "a large red circle left of a small blue square on a gray background"
STEPS = 20

pipe = FluxPipeline.from_pretrained(saccade.models.path("scenes-flux"))
pipe.set_progress_bar_config(disable=True)


def drawn(*systems: SparseD) -> np.ndarray:
    """The same noise for every pattern."""
    noise = torch.Generator().manual_seed(0)
    with saccade.attach(pipe, *systems):
        made = pipe(
            CAPTION,
            height=128,
            width=128,
            num_inference_steps=STEPS,
            max_sequence_length=32,
            generator=noise,
            output_type="np",
        )
    return np.asarray(made.images[0])


dense = drawn()
for keep in (0.7, 0.5, 0.3):
    sparsed = SparseD(keep=keep, block=16)
    error = float(np.mean((drawn(sparsed) - dense) ** 2))
    print(f"keep {keep}: {sparsed.density(STEPS):.0%} of the pairs over the run, squared distance to dense {error:.5f}")
