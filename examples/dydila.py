"""Teach two toy DiTs rendered shapes, one by linear attention, one by DyDiLA; then ask who chose which projector.

python examples/dydila.py
"""

from pathlib import Path
from tempfile import mkdtemp

import torch
from PIL import Image

from saccade.data.labelled import open_source
from saccade.models import DiT
from saccade.nn.routing import record_routing
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation, evaluate
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow

scenes, flow = open_source("scenes", 16, label="shape"), RectifiedFlow()
stage = ArchitectureStage(fit=Fit(steps=200, precision="no", decay=0.98), batch=16)
size = {"depth": 2, "width": 48, "heads": 2, "side": 16, "channels": 3, "learned_variance": False, "time_scale": 1000.0}

for mixer in ("linear(local=3)", "dydila(local=3)"):
    model = DiT(**size, classes=scenes.classes, mixer=mixer)
    task = ArchitectureTask(model, flow, scenes, stage, Evaluation(samples=16, steps=20))
    fit(task, stage.fit, Path(mkdtemp()))
    name = mixer.partition("(")[0]
    Image.fromarray(task.sheet()).resize((512, 128), Image.Resampling.NEAREST).save(f"dydila-{name}.png")
    loss = evaluate(model, flow, scenes, pictures=512)["mse"]
    print(f"{name}: loss {loss:.4f} on held-out scenes, samples in dydila-{name}.png")

x, labels = scenes.held_out(64)
with torch.no_grad(), record_routing(model.eval()) as found:
    model(x, torch.full((64,), 0.5), labels)
for router, (routing,) in found.items():
    if "redundant" in router:
        shares = routing.index.flatten().bincount(minlength=3) / routing.index.numel()
        print(f"{router}: projectors picked by {', '.join(f'{share:.0%}' for share in shares)} of the tokens")
