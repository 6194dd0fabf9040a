"""Tiny transformers, adapters whose every weight is random, and layouts for them."""

from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from saccade.papers.siamlayout import LayoutAdapter, LayoutBatch

WIDTH = 12  # of a caption's vector
TEXT = 5
HOSTS = ("sd3", "sd3.5", "flux")


def host(kind: str, seed: int = 0) -> Any:
    """A transformer of random weights in double precision."""
    torch.manual_seed(seed)
    if kind == "flux":
        model: Any = FluxTransformer2DModel(
            patch_size=1, in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=WIDTH, pooled_projection_dim=6, axes_dims_rope=(2, 2, 4),
        )  # fmt: skip
    else:
        newer: dict[str, Any] = {"qk_norm": "rms_norm", "dual_attention_layers": (0,)} if kind == "sd3.5" else {}
        model = SD3Transformer2DModel(
            sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=3, attention_head_dim=8,
            num_attention_heads=2, joint_attention_dim=10, caption_projection_dim=16, pooled_projection_dim=WIDTH,
            pos_embed_max_size=8, **newer,
        )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.double().eval().requires_grad_(False)


def inputs(kind: str, rows: int = 2, seed: int = 0) -> dict[str, Any]:
    """Of one forward."""
    rng = torch.Generator().manual_seed(seed)

    def draw(*sizes: int) -> Any:
        return torch.randn(rows, *sizes, generator=rng, dtype=torch.float64)

    if kind == "flux":
        return {
            "hidden_states": draw(16, 4), "encoder_hidden_states": draw(TEXT, WIDTH), "pooled_projections": draw(6),
            "timestep": torch.full((rows,), 0.7).double(), "txt_ids": torch.zeros(TEXT, 3), "return_dict": False,
            "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0)),
        }  # fmt: skip
    return {
        "hidden_states": draw(4, 8, 8), "encoder_hidden_states": draw(TEXT, 10), "pooled_projections": draw(WIDTH),
        "timestep": torch.full((rows,), 700.0).double(), "return_dict": False,
    }  # fmt: skip


def adapter(model: Any, *, trained: bool = True, **options: Any) -> LayoutAdapter:
    """For the model; `trained`: nothing in it is zero."""
    torch.manual_seed(1)
    made = LayoutAdapter.of(model, **options).double()
    if trained:
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def layout(kind: str, boxes: tuple[int, ...] = (3, 1), slots: int = 10, seed: int = 0) -> LayoutBatch:
    """As many boxes a row; padded slots hold what must not matter."""
    rng = torch.Generator().manual_seed(seed)
    words = (2,) if kind == "flux" else ()
    corners = torch.rand(len(boxes), slots, 2, 2, generator=rng, dtype=torch.float64).sort(dim=2).values.flatten(2)
    text = torch.randn(len(boxes), slots, *words, WIDTH, generator=rng, dtype=torch.float64)
    mask = torch.arange(slots) < torch.tensor(boxes)[:, None]
    return LayoutBatch(boxes=corners, mask=mask, text=text)
