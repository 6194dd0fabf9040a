"""Learn from a few videos how two shapes approach and part, in named sets, and save them as adapters: half a minute.

python examples/dreamrelation.py
"""

from dataclasses import replace
from pathlib import Path

import torch

import saccade
from saccade.papers.dreamrelation import Contrast, DreamRelation, DreamRelationRecipe, RelationLora, attention_subspaces
from saccade.pipelines.loading import load_pipeline

plain = DreamRelationRecipe().train
short = replace(plain.fit, steps=6, optim=replace(plain.fit.optim, lr=2e-3))
stage = replace(plain, fit=short, rank=8, contrast=Contrast(positives=1))
folder = DreamRelationRecipe(count=4, train=stage).run(Path("dreamrelation-run"))

pipe = load_pipeline("scenes-wan")
learned = RelationLora.load(folder)
for name in learned.sets:
    low = learned.low(name)
    print(f"{name:9} {sum(p.numel() for p in low.parameters()):6} weights at {len(low.names)} projections")

call = {"prompt": "a green triangle moving right then left and a purple cross moving left then right",
        "height": 48, "width": 48, "num_frames": 9, "num_inference_steps": 4, "guidance_scale": 1.0,
        "max_sequence_length": 32, "output_type": "np"}  # fmt: skip
with saccade.attach(pipe, DreamRelation(learned=learned)):
    attached = pipe(**call, generator=torch.Generator().manual_seed(0)).frames[0]
with learned.merged(pipe.transformer):
    merged = pipe(**call, generator=torch.Generator().manual_seed(0)).frames[0]
print(f"attached and merged videos differ by at most {abs(attached - merged).max():.1e} of white")

for row in attention_subspaces(pipe.transformer):
    print(f"layer {row.layer} {row.pair}: similarity {row.similarity:.2f} (random {row.random:.2f})")
