"""Train a toy NiNformer and an MLP-Mixer to name the colours of shapes, and look at what the gate does; some seconds.

python examples/ninformer.py
"""

from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from saccade.data.labelled import open_source
from saccade.models import ViT
from saccade.nn.part import TokenPositions
from saccade.papers import NiNformer
from saccade.train.classifier import ClassifierStage, ClassifierTask, held_out
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

scenes = open_source("scenes", 16, label="colour", count=2048, held=512)
stage = ClassifierStage(fit=Fit(steps=60, precision="no", decay=0.98, optim=Optim.constant(2e-3)), batch=32, shift=1)
sizes: dict[str, Any] = {"side": 16, "patch": 4, "width": 48, "depth": 2, "classes": scenes.classes}
ours = NiNformer(**sizes, hidden=96, dropout=0.0)

for name, model in {"NiNformer": ours, "MLP-Mixer": ViT(**sizes, mixer="token_mlp", ffn="mlp(ratio=2)")}.items():
    fit(ClassifierTask(model, scenes, stage), stage.fit, Path(mkdtemp()), cpu=True)
    print(f"{name}: {held_out(model.eval(), scenes, 512)[1].float().mean():.0%} of held-out colours named")

with torch.no_grad():
    block, tokens = ours.stack.blocks[0], ours.patches(scenes.held_out(64)[0])
    gate = block.unit.gate(block.norm(tokens), TokenPositions(grid=(4, 4)))
between, within = gate.std(0).mean(), gate.mean(0).std()
print(f"the first gate differs by {between:.2f} from picture to picture, its mean by {within:.2f} from place to place")
