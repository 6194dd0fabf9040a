"""Train a layout adapter for the bundled model for some steps, and draw two things where boxes say: half a minute.

python examples/siamlayout.py [steps]
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image

import saccade
from saccade.papers.siamlayout import (
    LayoutAdapter,
    LayoutStage,
    SiamLayout,
    SiamLayoutRecipe,
    captioned,
    encode_layout,
)
from saccade.papers.siamlayout.scenes import ENCODING, bare_caption, boxed_scenes

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
stage = LayoutStage(batch=8)
recipe = SiamLayoutRecipe(count=64, places=False, train=replace(stage, fit=replace(stage.fit, steps=steps)))
adapter = LayoutAdapter.load(recipe.run(Path("siamlayout-run")))

(scene,) = boxed_scenes(1, seed=0, things=(2,), split="held-out").scenes
boxes = captioned([f"a {t.size} {t.colour} {t.shape}" for t in scene.things], [t.box for t in scene.things])
pipe = FluxPipeline.from_pretrained(saccade.models.path("scenes-flux"))
pipe.set_progress_bar_config(disable=True)
layout = encode_layout(pipe, [boxes], **ENCODING)
pictures = [saccade.data.scenes.render(scene, 64)]
for systems in ((), (SiamLayout(adapter=adapter, layout=layout, until=1.0),)):
    with saccade.attach(pipe, *systems):
        made = pipe(
            bare_caption(scene), height=64, width=64, num_inference_steps=12, max_sequence_length=32,
            generator=torch.Generator().manual_seed(0), output_type="np",
        ).images[0]  # fmt: skip
    pictures.append((np.asarray(made) * 255).round().astype(np.uint8))
Image.fromarray(np.concatenate(pictures, axis=1)).resize((768, 256)).save("siamlayout.png")
print(f"siamlayout.png: asked, drawn alone, drawn with boxes by an adapter of {steps} steps; it takes some thousand")
