"""Latents as released weights want them: scaled, never shifted, one channel as three."""

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from saccade.papers.mmface_dit.latents import decoder, encode


def _vae(shift: float) -> AutoencoderKL:
    torch.manual_seed(0)
    widths = {"block_out_channels": (8, 8), "down_block_types": ("DownEncoderBlock2D",) * 2, "latent_channels": 16}
    up = {"up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 4}
    return AutoencoderKL(**widths, **up, scaling_factor=0.5, shift_factor=shift).eval()  # type: ignore[arg-type]


@torch.no_grad()
def test_latents_are_scaled_both_ways_whatever_the_shift() -> None:
    pictures = torch.rand(2, 3, 8, 8) * 2 - 1
    found = [encode(_vae(shift), pictures, generator=torch.Generator().manual_seed(1)) for shift in (0.0, 0.3)]
    drawn = _vae(0.0).encode(pictures).latent_dist.sample(torch.Generator().manual_seed(1))  # type: ignore[union-attr]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], 0.5 * drawn) and found[0].shape == (2, 16, 4, 4)
    vae = _vae(0.3)
    assert torch.equal(decoder(vae)(found[0]), vae.decode(drawn).sample)  # type: ignore[union-attr]


def test_a_sketch_of_one_channel_is_one_of_three() -> None:
    sketch, vae = torch.rand(1, 1, 8, 8) * 2 - 1, _vae(0.0)
    one, three = (
        encode(vae, each, generator=torch.Generator().manual_seed(1)) for each in (sketch, sketch.repeat(1, 3, 1, 1))
    )
    assert torch.equal(one, three)


def test_pictures_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pictures lie in \[0, 255\] and must lie in \[-1, 1\]"):
        encode(_vae(0.0), torch.tensor([0.0, 255.0]).expand(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"pictures of shape \(1, 4, 8, 8\) must have 3 channels, or 1 for sketches"):
        encode(_vae(0.0), torch.zeros(1, 4, 8, 8))
