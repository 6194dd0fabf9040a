"""Learn two colours from one picture of two shapes, each under a new word, on the bundled model: two minutes.

python examples/attencraft.py
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image

import saccade
from saccade.papers.attencraft import Concept, Customisation, PriorPictures, customise
from saccade.papers.attencraft.scene import JOINT, PRIOR, SIDE, TEMPLATE, TEXT, Shown

pipe = FluxPipeline.from_pretrained(saccade.models.path("scenes-flux"))
pipe.set_progress_bar_config(disable=True)
picture = Shown().picture()  # a red circle and a blue square
concepts = (
    Concept(token="<new1>", word="orange", phrase="<new1> circle"),
    Concept(token="<new2>", word="cyan", phrase="<new2> square"),
)
paper = Customisation()
options = Customisation(
    fit=replace(paper.fit, steps=100, optim=replace(paper.fit.optim, lr=1e-3)),
    prior=PriorPictures(pictures=4, prompt=PRIOR, steps=12),
    text_tokens=TEXT,
)
folder = Path("attencraft-run")
system = customise(pipe, picture, concepts, folder=folder, template=TEMPLATE, joint=JOINT, options=options)

pictures = [picture]
with saccade.attach(pipe, system):
    for words in ("<new1> circle", "<new2> square", "<new1> square", "<new2> circle"):
        made = pipe(
            TEMPLATE.format(words), height=SIDE, width=SIDE, num_inference_steps=16, max_sequence_length=TEXT,
            generator=torch.Generator().manual_seed(0), output_type="np",
        ).images[0]  # fmt: skip
        pictures.append((np.asarray(made) * 255).round().astype(np.uint8))
strip = Image.fromarray(np.concatenate(pictures, axis=1))
strip.resize((4 * strip.width, 4 * strip.height)).save("attencraft.png")
print(f"attencraft.png: the picture, each word with its own shape, and with the other's; {folder}/concepts.safetensors")
