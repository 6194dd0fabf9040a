"""A red circle put beside a blue square, on the bundled model, by blending and a shifted attention: a minute.

python examples/in_context_brush.py
"""

from pathlib import Path

from diffusers import FluxPipeline

import saccade
from saccade.data import scenes
from saccade.insert import BUNDLED_SETTINGS, Record, replay, write_sheet

pipe = FluxPipeline.from_pretrained(saccade.models.path("scenes-flux"))
things = (
    scenes.Thing(colour="red", shape="circle", size="large", x=0.5, y=0.5),
    scenes.Thing(colour="blue", shape="square", size="large", x=0.2, y=0.5),
)
subject, into = (scenes.render(scenes.Scene(things=(thing,), background="white"), 64) for thing in things)
made = saccade.insert(
    pipe,
    subject=subject,
    into=into,
    mask=(0.5, 0.25, 0.95, 0.75),
    prompt="a large blue square at the left and a large red circle at the right on a white background",
    seeds=(0, 1),
    words="real",
    **BUNDLED_SETTINGS,
)
write_sheet(made, Path("in_context_brush.png"))
made.record.save("in_context_brush.safetensors")
again = replay(pipe, Record.load("in_context_brush.safetensors"))
same = again.record.digests == made.record.digests
print(
    f"in_context_brush.png: {len(made.pictures)} pictures; drawn again {'bit for bit' if same else 'with other bits'}"
)
