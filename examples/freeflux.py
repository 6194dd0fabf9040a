"""Find the layers of the bundled model that hang on positions, and edit by layers: a minute.

python examples/freeflux.py
"""

from typing import Any

import numpy as np
from PIL import Image

import saccade
from saccade.analysis import plot_layers
from saccade.edit import BUNDLED_SETTINGS
from saccade.papers.freeflux import AddObject, KeepRegion, Reshape, probe_layers
from saccade.pipelines import load_pipeline

SOURCE = "a large red circle at the left on a gray background"
SETTINGS: dict[str, Any] = dict(BUNDLED_SETTINGS)
EDITS: dict[str, dict[str, Any]] = {
    "a large red circle at the left and a large blue square at the bottom right on a gray background": {
        "kind": AddObject(),
        "word": "blue square",
    },
    "a large red circle at the right on a gray background": {"kind": Reshape()},
    "a large red circle at the left on a white background": {"kind": KeepRegion(), "word": "red circle"},
}
SIZES: dict[str, Any] = {"height": 64, "width": 64}

pipe = load_pipeline("scenes-flux")
scores = probe_layers(pipe, [SOURCE], num_inference_steps=6, max_sequence_length=32, **SIZES)
plot_layers(scores).savefig("freeflux-layers.svg")
layers = scores.sets()
print("hangs on positions:", *layers.position, "goes by content:", *layers.content)

pictures = []
for target, kind in EDITS.items():
    edited = saccade.edit(pipe, source=SOURCE, target=target, layers=layers, **kind, **SIZES, **SETTINGS)
    pictures += [edited.before[0], edited.after[0]] if not pictures else [edited.after[0]]
strip = Image.fromarray((np.concatenate(pictures, axis=1) * 255).round().astype(np.uint8))
strip.resize((4 * strip.width, 4 * strip.height)).save("freeflux.png")
print("freeflux.png: the source, " + ", ".join(EDITS))
