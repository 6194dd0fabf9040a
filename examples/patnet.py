"""Train a toy PATNet on rendered shapes, fold it for inference, and time both; half a minute.

python examples/patnet.py
"""

from pathlib import Path
from tempfile import mkdtemp

import torch

from saccade.data.labelled import open_source
from saccade.metrics.stopwatch import in_turn
from saccade.models.sizing import parameters
from saccade.papers import PATNet, folded
from saccade.train.classifier import ClassifierStage, ClassifierTask, measured
from saccade.train.loop import Fit, fit

scenes = open_source("scenes", 64, label="colour", count=1024, held=128)
model = PATNet(width=16, depths=(1, 1, 2, 1), pooled=64, classes=scenes.classes)
stage = ClassifierStage(batch=32, fit=Fit(steps=60, precision="no", decay=0.9))
fit(ClassifierTask(model, scenes, stage), stage.fit, Path(mkdtemp()), cpu=True)
model.eval()

x, lean = scenes.held_out(32)[0], folded(model)
with torch.no_grad():
    apart = (model(x) - lean(x)).abs().max().item()
    seconds = in_turn({"trained": lambda: model(x), "folded": lambda: lean(x)}, rounds=9)
found = measured(lean, scenes, 128)["accuracy"]["mid"]
print(f"{parameters(model):,} parameters; folded, logits differ by {apart:.1e}, {found:.0%} of the colours are found")
for name, each in (("trained", model), ("folded", lean)):
    spent = 1e3 * sorted(seconds[name])[len(seconds[name]) // 2]
    print(f"{name}: {each.macs(x[:1]) / 1e6:.2f}M multiply-adds a picture, {spent:.1f} ms for 32")

print("stages:", *(f"{maps.shape[1]} channels at {maps.shape[2]} x {maps.shape[3]}" for maps in model.features(x)))
