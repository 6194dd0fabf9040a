"""Sample from a DC-DiT at several budgets, cheaper for the unconditional half: an untrained tiny one, a few seconds.

python examples/dc_dit.py
"""

import torch

from saccade.nn.routing import record_routing
from saccade.papers import DCDiT
from saccade.papers.dc_dit.cost import flops
from saccade.papers.dc_dit.model import lite_guided
from saccade.runs.denoising import ddpm

torch.manual_seed(0)
model = DCDiT(layout=("c2", ("D4",), "c2"), width=128, heads=4, side=32, channels=3, classes=10).eval()
torch.nn.init.zeros_(model.get_parameter("stage.router.score.scorer.3.bias"))  # at first it keeps next to nothing
labels = torch.tensor([3, 7])

with record_routing(model) as found, torch.no_grad():
    model(torch.randn(2, 3, 32, 32), torch.tensor([900.0, 100.0]), labels)
kept = found["stage.router"][0].index[..., 0].sum(1).tolist()
print(f"of 1,024 tokens the router keeps {kept[0]} and {kept[1]}")
for rho in (0.0, 0.3, 0.6, 0.9):
    print(f"rho {rho}: {flops(model.config, kept[0] * (1 - rho)).total / 1e9:.2f} GFLOPs for a forward of the first")

with torch.no_grad():
    pictures = ddpm(lite_guided(model, labels, scale=1.25, rho=0.9), torch.randn(2, 3, 32, 32), steps=4)
print(f"pictures {tuple(pictures.shape)}, the unconditional half with a tenth of its tokens")
