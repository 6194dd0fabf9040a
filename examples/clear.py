"""Draw one caption with ever smaller attention windows, on the bundled model: 256 image tokens, a minute or two.

python examples/clear.py
"""

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image

import saccade
from saccade.papers.clear import Clear

CAPTION = "a large red circle left of a small blue square on a gray background"
SYSTEMS = {"dense": (), "radius 8": (Clear(radius=8),), "radius 4": (Clear(radius=4),), "radius 2": (Clear(radius=2),)}

pipe = FluxPipeline.from_pretrained(saccade.models.path("scenes-flux"))
pipe.set_progress_bar_config(disable=True)


def drawn(*systems: Clear) -> np.ndarray:
    """The same noise for every window."""
    noise = torch.Generator().manual_seed(0)
    with saccade.attach(pipe, *systems) as run:
        made = pipe(
            CAPTION,
            height=128,
            width=128,
            num_inference_steps=20,
            max_sequence_length=32,
            generator=noise,
            output_type="np",
        )
    densities = [site.density for site in run.report().sites if site.density is not None]
    print(f"{sum(densities) / len(densities):6.1%} of all pairs")
    return np.asarray(made.images[0])


pictures = {}
for name, systems in SYSTEMS.items():
    print(f"{name:9}", end=" ")
    pictures[name] = drawn(*systems)
for name, picture in pictures.items():
    error = float(np.mean((picture - pictures["dense"]) ** 2))
    print(f"{name:9} squared distance to dense {error:.4f}")
Image.fromarray((np.concatenate([*pictures.values()], axis=1) * 255).round().astype(np.uint8)).save("clear.png")
print("clear.png: " + ", ".join(pictures))
