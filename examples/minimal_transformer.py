"""Fold a stack of attention into a quarter of its numbers, and train what is left of a transformer; some seconds.

python examples/minimal_transformer.py
"""

from pathlib import Path
from tempfile import mkdtemp

import torch

from saccade.data.labelled import open_source
from saccade.models.sizing import parameters
from saccade.nn import SelfAttention
from saccade.papers import MinimalTransformer, PlainStack, collapse_stack
from saccade.train.classifier import ClassifierStage, ClassifierTask, held_out
from saccade.train.loop import Fit, fit
from saccade.train.optimisers import Optim

layers = PlainStack(SelfAttention(64, 1, bias=False) for _ in range(12))
folded, x = collapse_stack(layers.layers), torch.randn(1, 16, 64)
error = (folded(x) - layers(x)).abs().max()
print(f"12 layers: {parameters(layers):,} numbers folded into {parameters(folded):,}, outputs differ by {error:.0e}")

scenes = open_source("scenes", 16, label="colour", count=2048, held=512)
stage = ClassifierStage(fit=Fit(steps=150, precision="no", decay=0.98, optim=Optim.constant(2e-3)), batch=32, shift=1)
for name, options in {
    "unchanged": {},
    "no feed-forward": {"use_mlp": False},
    "no feed-forward, one matrix": {"use_mlp": False, "kind": "wqk_novo"},
}.items():
    model = MinimalTransformer(side=16, patch=4, channels=3, width=48, depth=2, classes=scenes.classes, **options)
    fit(ClassifierTask(model, scenes, stage), stage.fit, Path(mkdtemp()), cpu=True)
    found = held_out(model.eval(), scenes, 512)[1].float().mean()
    print(f"{name}: {parameters(model):,} parameters, {found:.0%} of held-out colours named")
