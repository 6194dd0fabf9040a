"""Recolour and reshape one thing of a picture by words, on the bundled model: half a minute.

python examples/consistedit.py
"""

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image

import saccade
from saccade.core.rows import Rows
from saccade.core.site import Where
from saccade.papers.consistedit import ConsistEdit
from saccade.pipelines.words import word_tokens
from saccade.systems.word_map import WordMap, edit_mask

SOURCE = "a large red circle at the top left and a small blue square at the bottom right on a gray background"
EDITS = {  # the target, and how long the circle keeps its structure
    "a large yellow circle at the top left and a small blue square at the bottom right on a gray background": 1.0,
    "a large red triangle at the top left and a small blue square at the bottom right on a gray background": 0.3,
}
TEXT = 32  # text tokens

pipe = FluxPipeline.from_pretrained(saccade.models.path("scenes-flux"))
pipe.set_progress_bar_config(disable=True)


def drawn(*prompts: str) -> np.ndarray:
    """Every prompt from the same noise."""
    noise = [torch.Generator().manual_seed(0) for _ in prompts]
    made = pipe(
        list(prompts),
        height=64,
        width=64,
        num_inference_steps=20,
        max_sequence_length=TEXT,
        generator=noise,
        output_type="np",
    )
    return np.asarray(made.images)


words = WordMap(tokens={"circle": word_tokens(pipe, SOURCE, "red circle", TEXT)}, where=Where(kinds=("joint",)))
with saccade.attach(pipe, words) as run:
    pictures = [*drawn(SOURCE)]
    mask = edit_mask(words.heat(run.state)["circle"], 0.4)[0, 0]
print("\n".join("".join(".#"[int(cell)] for cell in row) for row in mask))

for target, strength in EDITS.items():
    with saccade.attach(pipe, ConsistEdit(mask=mask, strength=strength), rows=Rows.of("source", "target")):
        pictures.append(drawn(SOURCE, target)[1])
strip = Image.fromarray((np.concatenate(pictures, axis=1) * 255).round().astype(np.uint8))
strip.resize((4 * strip.width, 4 * strip.height)).save("consistedit.png")
print("consistedit.png: the source, " + ", ".join(EDITS))
