"""One caption with each layer of the bundled model weakened in turn, and a search for a bright head: some minutes.

python examples/headhunter.py
"""

from pathlib import Path

import numpy as np
from diffusers import FluxPipeline

import saccade
from saccade.compare.arms import Setup
from saccade.papers import SoftPAG, all_heads, plot_heads, weakened_pictures
from saccade.runs import hunt_heads
from saccade.ui.sheets import write_rows

PROMPT = "a large red circle left of a small blue square"
TEXT = {"max_sequence_length": 32}

pipe = FluxPipeline.from_pretrained(saccade.models.path("scenes-flux"))
drawn = {}
for layer in range(5):
    made = saccade.guide(pipe, PROMPT, layers=(layer,), w=2.0, steps=12, height=64, width=64, options=TEXT)
    drawn |= {"plain": made.plain, f"layer {layer}": made.guided[2.0]}
write_rows([drawn], Path("headhunter.png"), title="SoftPAG")

setup = Setup(steps=4, height=64, width=64, batch=4, options=TEXT)
found = hunt_heads(
    weakened_pictures(pipe, SoftPAG(w=2.0), setup=setup),
    lambda picture, prompt: np.mean(picture),
    [(PROMPT, seed) for seed in range(4)],
    all_heads(pipe),
    best=3,
    cache="heads.json",
)
plot_heads(found, title="brightness").savefig("heads.png")
print(f"headhunter.png: the plain picture and each layer weakened; heads.png: {found.chosen} are bright")
