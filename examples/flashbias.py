"""Draw near tokens together in a diffusion transformer, without an n x n bias: a tiny random FLUX, a few seconds.

python examples/flashbias.py
"""

import torch
from diffusers import FluxTransformer2DModel

import saccade
from saccade.papers.flashbias import FlashBias, SpatialDistance

torch.manual_seed(0)
model = FluxTransformer2DModel(
    patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
    joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8),
).eval()  # fmt: skip
inputs = {
    "hidden_states": torch.randn(1, 64, 4),
    "encoder_hidden_states": torch.randn(1, 6, 32),
    "pooled_projections": torch.randn(1, 32),
    "timestep": torch.tensor([0.5]),
    "img_ids": torch.cartesian_prod(torch.zeros(1).long(), torch.arange(8), torch.arange(8)).float(),
    "txt_ids": torch.zeros(6, 3),
    "return_dict": False,
}

with torch.no_grad():
    before = model(**inputs)[0]
    for strength in (0.0, 1.0, 10.0, 100.0):
        with saccade.attach(model, FlashBias(prior=SpatialDistance(strength=strength))) as run:
            moved = (model(**inputs)[0] - before).norm() / before.norm()
        print(f"strength {strength:5.1f}: the output moves by {100 * moved:.2f} %")
    print(run.report())
