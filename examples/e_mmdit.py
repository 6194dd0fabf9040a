"""Teach a tiny E-MMDiT to draw from captions for a minute, and print what subregions and compression save.

python examples/e_mmdit.py
"""

import numpy as np
import torch

from saccade.data.scenes import describe, render, sample, vocabulary
from saccade.models.labelled import TokenWords
from saccade.papers import EMMDiT
from saccade.papers.e_mmdit.subregions import FULL

STEPS, BATCH, WORDS = 40, 8, 16
IDS = {word: i for i, word in enumerate(vocabulary())}

torch.manual_seed(0)
rng = np.random.default_rng(0)
model = TokenWords(EMMDiT.of("tiny", width=48), len(IDS), tokens=WORDS, width=96)
config = model.model.config
full = EMMDiT.of("tiny", patterns=FULL, compress=False).config
print(f"pairs a head: {config.pairs(WORDS):,} of {full.pairs(WORDS):,}")

optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
for step in range(STEPS):
    scenes = [sample(rng, count=1) for _ in range(BATCH)]
    captions = [describe(scene, rng).text.split() for scene in scenes]
    ids = torch.tensor([[IDS[word] for word in words] + [len(IDS)] * (WORDS - len(words)) for words in captions])
    x = torch.from_numpy(np.stack([render(scene, 32) for scene in scenes])).permute(0, 3, 1, 2) / 127.5 - 1
    noise, t = torch.randn_like(x), torch.randn(BATCH).sigmoid()
    share = t.view(-1, 1, 1, 1)
    loss = (model((1 - share) * x + share * noise, t, ids).out - (noise - x)).square().mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    if step % 10 == 9:
        print(f"step {step + 1}: loss {loss.item():.3f}")
