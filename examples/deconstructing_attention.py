"""Train four tiny language models on captions, each without one principle of attention, and see what that costs.

python examples/deconstructing_attention.py
"""

import tempfile
from pathlib import Path

import torch

from saccade.metrics import indicators
from saccade.papers import DeconstructedLM
from saccade.papers.deconstructing_attention import maps
from saccade.train import CausalStage, CausalTask, Fit, fit, held_out_nats
from saccade.train.language_comparison import numbers
from saccade.train.optimisers import Optim

SIZES = {"depth": 2, "width": 32, "heads": 4, "ffn": "swiglu(hidden=88)", "context": 64}
text, unseen = numbers("captions", "train"), numbers("captions", "held-out")
stage = CausalStage(
    fit=Fit(steps=60, precision="no", decay=0.9, optim=Optim(lr=3e-3, muon_lr=1e-2)), length=64, batch=8
)

for variant, layout in (("mlp", "standard"), ("mlp", "uniform"), ("nonapprox", "uniform"), ("rnd_emb_qk", "uniform")):
    torch.manual_seed(0)
    model = DeconstructedLM(variant=variant, layout=layout, **SIZES)
    with tempfile.TemporaryDirectory() as folder:
        fit(CausalTask(model, text, stage), stage.fit, Path(folder), cpu=True)
    nats = held_out_nats(model, unseen, length=64, windows=32).mean()
    last = maps(model, unseen[None, :64])[-1]
    looks = "no map" if last is None else f"{indicators(last).sink.mean():.2f} of a map goes to the first token"
    print(f"{'standard' if layout == 'standard' else variant:12} {nats:.2f} nats a character, {looks}")
