"""A red circle dragged to another corner, of a rendered picture and of a drawn one, on the bundled model: a minute.

python examples/drag.py
"""

from pathlib import Path

import saccade
from saccade.data import scenes
from saccade.drag import BUNDLED_SETTINGS, Record, replay, write_sheet
from saccade.papers.diffuhaul import Blob
from saccade.pipelines import load_pipeline

pipe = load_pipeline("scenes-flux")
circle = scenes.Thing(colour="red", shape="circle", size="large", x=0.2, y=0.2)
square = scenes.Thing(colour="purple", shape="square", size="large", x=0.5, y=0.5)
scene = scenes.Scene(things=(circle, square), background="gray")
here, other = scenes.masks(scene, 64)
prompt = "a large red circle and a large purple square on a gray background"

photo = saccade.drag(
    pipe,
    scenes.render(scene, 64),
    prompt=prompt,
    object=Blob.of_mask(here, "red circle"),
    others={"purple square": other},
    to=(0.8, 0.8),
    **{name: value for name, value in BUNDLED_SETTINGS.items() if name not in ("height", "width")},
)
write_sheet(photo, Path("drag.png"))
photo.record.save("drag.safetensors")
again = replay(pipe, Record.load("drag.safetensors"))
same = again.record.digests == photo.record.digests

drawn = saccade.drag(
    pipe,
    f"{prompt[:18]} at the top left and{prompt[22:]}",
    object="red circle",
    to=(0.8, 0.8),
    seed=1,
    **BUNDLED_SETTINGS,
)
write_sheet(drawn, Path("drag-drawn.png"))
shown = [
    "; ".join(f"{t.colour} {t.shape} at the {t.place}" for t in scenes.parse(made.after[0]).things)
    for made in (photo, drawn)
]
print(f"drag.png: {shown[0]}; again {'bit for bit' if same else 'with other bits'}\ndrag-drawn.png: {shown[1]}")
