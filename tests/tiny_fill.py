"""A random FluxFillPipeline made of `tiny_flux`: its transformer sees the masked picture and the mask."""

from typing import Any

import torch

from tests.tiny_flux import TINY


def tiny_fill() -> Any:
    """The same weights every time. Channels: 16 of latents, 16 of the masked picture, 4 x 16 of the mask's pixels."""
    from diffusers import FluxFillPipeline, FluxTransformer2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = TINY.pipeline()
        own = dict(plain.transformer.config)
        inner = 4 * TINY.latent_channels
        transformer = FluxTransformer2DModel(
            **{name: own[name] for name in own if not name.startswith("_")}
            | {"in_channels": 2 * inner + 4 * plain.vae_scale_factor**2, "out_channels": inner, "guidance_embeds": True}
        )
    parts = {
        name: part
        for name, part in plain.components.items()
        if name in FluxFillPipeline._get_signature_keys(FluxFillPipeline)[0]
    }
    pipe = FluxFillPipeline(**{**parts, "transformer": transformer.eval()})
    pipe.set_progress_bar_config(disable=True)
    return pipe
