"""A random FluxPipeline that draws 32 x 32 pixels (16 image tokens) in a moment."""

from typing import Any

import torch

from saccade.models.scenes_flux import ScenesFlux

TINY = ScenesFlux(
    hidden=64, head_dim=32, double_blocks=1, single_blocks=1, rope_axes=(8, 12, 12), text_dim=32, text_heads=2,
    t5_layers=1, clip_layers=1, autoencoder_widths=(8, 8, 8), groups=4,
)  # fmt: skip


def tiny_flux() -> Any:
    """The same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = TINY.pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe
