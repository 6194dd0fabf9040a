"""Proxies in the place of full attention: what they cost, and a short training on small scenes; a minute or two.

python examples/pt_dit.py
"""

import numpy as np
import torch

from saccade.data.labelled import open_source
from saccade.models import DiT
from saccade.models.macs import macs
from saccade.papers.pt_dit.proxies import mixing_pairs
from saccade.train.judging import evaluate
from saccade.train.objectives import RectifiedFlow

SIDE, STEPS, BATCH = 32, 60, 8
for side in (16, 32, 64):
    pairs = mixing_pairs((1, side, side), (1, side // 8, side // 8))
    print(f"{side:3} x {side:<3} tokens: {pairs / side**4:6.1%} of the pairs of full attention")

source, flow = open_source("scenes", SIDE, count=1024, held=128), RectifiedFlow()
sizes = {"depth": 2, "width": 48, "heads": 4, "side": SIDE, "channels": 3, "learned_variance": False}
for name, mixer in {"full attention": "attention", "proxies": "proxy(window=(2, 2))"}.items():
    torch.manual_seed(0)
    model = DiT(**sizes, classes=source.classes, mixer=mixer)
    optimiser, rng = torch.optim.AdamW(model.parameters(), 2e-3), np.random.default_rng(0)
    for _ in range(STEPS):
        x, labels = source.batch(rng, BATCH)
        loss = flow.loss(model, x, labels, flow.draw(rng, BATCH), torch.randn_like(x))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    count = macs(model, torch.zeros(1, 3, SIDE, SIDE), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    held = evaluate(model, flow, source, pictures=128)["mse"]
    print(f"{name:15} {count / 1e6:6.1f} million multiply-adds, held-out loss {held:.3f}")
