"""Train a toy DiT, turn it into one of four experts, train on, and see what the experts depend on; a few minutes.

python examples/dit_moe.py
"""

from pathlib import Path
from tempfile import mkdtemp

import torch

from saccade.analysis.routing import count_usage, information, load_variation
from saccade.analysis.usage_plot import plot_usage
from saccade.data.labelled import open_source
from saccade.models import DiT
from saccade.nn.routing import record_routing
from saccade.papers import upcycle
from saccade.train.denoising import ArchitectureStage, ArchitectureTask
from saccade.train.judging import Evaluation, evaluate
from saccade.train.loop import Fit, fit
from saccade.train.objectives import RectifiedFlow

scenes, flow = open_source("scenes", 16, label="shape"), RectifiedFlow()
stage = ArchitectureStage(fit=Fit(steps=200, precision="no", decay=0.98), batch=32)


def trained(model: DiT) -> DiT:
    """The same after a short training; prints its loss."""
    fit(ArchitectureTask(model, flow, scenes, stage, Evaluation(samples=8, steps=5)), stage.fit, Path(mkdtemp()))
    loss = evaluate(model, flow, scenes, pictures=512)["mse"]
    print(f"{type(model).__name__}: loss {loss:.4f} on held-out scenes")
    return model.eval()


dense = DiT(
    depth=3,
    width=48,
    heads=3,
    side=16,
    channels=scenes.channels,
    classes=scenes.classes,
    ffn="swiglu",
    learned_variance=False,
    time_scale=1000.0,
)
model = trained(upcycle(trained(dense), experts=4, shared=1, balance=0.005))

labels = torch.arange(scenes.classes).repeat(16)
nothing = torch.full_like(labels, scenes.classes)
with record_routing(model) as routings:
    flow.sample(model, labels, nothing, (len(labels), scenes.channels, 16, 16), steps=20)
usage = count_usage(routings, labels, classes=scenes.classes)
for name, table in {"place": usage.places, "step": usage.steps, "class": usage.classes}.items():
    print(
        f"{name} settles {', '.join(f'{share:.1%}' for share in information(table).tolist())} of the expert, by layer"
    )
print(f"loads vary by {', '.join(f'{share:.0%}' for share in load_variation(usage.steps).tolist())}")
plot_usage({"step": usage.steps, "place": usage.places, "class": usage.classes}).savefig("dit-moe.png")
