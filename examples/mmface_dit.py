"""Teach a tiny MMFace-DiT scenes under masks and sketches for some seconds, then draw: mmface-dit.png.

python examples/mmface_dit.py
"""

from pathlib import Path
from tempfile import mkdtemp

import torch
from PIL import Image

from saccade.data.labelled import ControlledScenes
from saccade.data.pixels import to_bytes
from saccade.models import ArchitecturePipeline
from saccade.papers import MMFaceDiT
from saccade.papers.mmface_dit.objectives import FLOW
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation, evaluate
from saccade.train.loop import Fit, fit
from saccade.train.plots import tile

torch.manual_seed(0)
scenes = ControlledScenes()
model = MMFaceDiT.of("tiny", depth=2, width=48, classes=scenes.classes)
stage = ArchitectureStage(fit=Fit(steps=200, precision="no", decay=0.95), batch=8, drop=0.05)
task = ArchitectureTask(model, FLOW, scenes, stage, Evaluation(samples=1, steps=2))
print(f"{sum(weight.numel() for weight in model.parameters()):,} weights")
print(f"loss before: {evaluate(model, FLOW, scenes, pictures=32)['mse']:.3f}")
fit(task, stage.fit, Path(mkdtemp()))
print(f"loss after:  {evaluate(model, FLOW, scenes, pictures=32)['mse']:.3f}")

x, condition = scenes.held_out(8)
picture_alone = scenes.null(condition)
nothing = {**picture_alone, "picture": torch.zeros_like(condition["picture"])}
drawn = ArchitecturePipeline(model)(
    condition,
    null=(nothing, picture_alone),
    guidance=(1.5, 3.0),
    steps=10,
    generator=torch.Generator().manual_seed(0),
)
rows = (condition["picture"], drawn.pictures, x)
sheet = tile([picture for row in rows for picture in to_bytes(row)], columns=8)
Image.fromarray(sheet).save("mmface-dit.png")
