"""Train a toy DiCo on rendered shapes and draw what a minute teaches it, with and without its channel gate.

python examples/dico.py
"""

from pathlib import Path
from tempfile import mkdtemp

from PIL import Image

from saccade.data.labelled import open_source
from saccade.papers import DiCo
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation, evaluate
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow

scenes, flow = open_source("scenes", 16, label="shape"), RectifiedFlow()
stage = ArchitectureStage(fit=Fit(steps=300, precision="no", decay=0.98), batch=16)

for name, mixer in {"gate": "dico", "no-gate": "dico(gate='none')"}.items():
    model = DiCo(
        width=16,
        depths=(1, 1, 2, 1, 1),
        channels=scenes.channels,
        classes=scenes.classes,
        mixer=mixer,
        learned_variance=False,
        time_scale=1000.0,
    )
    task = ArchitectureTask(model, flow, scenes, stage, Evaluation(samples=16, steps=25))
    fit(task, stage.fit, Path(mkdtemp()))
    Image.fromarray(task.sheet()).resize((512, 128), Image.Resampling.NEAREST).save(f"dico-{name}.png")
    loss = evaluate(model, flow, scenes, pictures=512)["mse"]
    print(f"{name}: loss {loss:.4f} on held-out scenes, samples in dico-{name}.png")
