"""Put ULSAM beside and in place of blocks of a MobileNetV2, count what that saves, and draw what its groups look at.

python examples/ulsam.py
"""

from pathlib import Path
from tempfile import mkdtemp

import torch
from matplotlib import pyplot as plt

from saccade.data.labelled import open_source
from saccade.models.sizing import parameters
from saccade.papers import ULSAMMobileNet, insert_ulsam
from saccade.train.classifier import ClassifierStage, ClassifierTask
from saccade.train.loop import Fit, fit

with torch.device("meta"):
    model, picture = ULSAMMobileNet.of("V2").eval(), torch.zeros(1, 3, 224, 224)
    print(f"MobileNetV2: {model.macs(picture) / 1e6:.1f}M multiply-adds, {parameters(model) / 1e6:.2f}M parameters")
    for layers in ((14,), (14, 17), (13, 14, 16, 17)):
        with insert_ulsam(model, picture, instead=layers):
            cost, size = model.macs(picture) / 1e6, parameters(model) / 1e6
            print(f"ULSAM in place of layers {layers}: {cost:.1f}M multiply-adds, {size:.2f}M parameters")

scenes = open_source("scenes", 16, label="colour", count=1024, held=64)
small = ULSAMMobileNet(multiplier=0.25, stride=8, instead=(14,), classes=scenes.classes)
stage = ClassifierStage(batch=32, shift=1, fit=Fit(steps=60, precision="no", decay=0.9))
fit(ClassifierTask(small, scenes, stage), stage.fit, Path(mkdtemp()), cpu=True)

x, _ = scenes.held_out(4)
seen: list[torch.Tensor] = []
(module,) = small.eval().ulsams().values()
module.register_forward_pre_hook(lambda layer, inputs: seen.append(layer.maps(inputs[0])))
with torch.no_grad():
    small(x)
figure, grid = plt.subplots(4, 1 + module.groups)
for line, pixels, maps in zip(grid, x, seen[0], strict=True):
    line[0].imshow((pixels.movedim(0, -1).numpy() + 1) / 2)
    for axes, values in zip(line[1:], maps, strict=True):
        axes.imshow(values.numpy())
for axes in grid.flat:
    axes.set_axis_off()
figure.savefig("ulsam.png")
print("pictures and the maps of four groups in ulsam.png")
