"""Labels or words in, pictures out."""

from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from saccade.models import ArchitecturePipeline, DiT
from saccade.models.pipeline import vae_decoder
from saccade.papers import DiCo, EMMDiT, PTDiT
from saccade.runs.denoising import ddpm, guided, rectified_flow

SIZES = {"depth": 1, "width": 16, "heads": 2, "side": 8, "channels": 3, "classes": 4}
LABELS = torch.tensor([0, 3])


def _dit(**more: object) -> DiT:
    torch.manual_seed(0)
    model = DiT(**SIZES, **more)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model


def _seed() -> torch.Generator:
    return torch.Generator().manual_seed(7)


def test_flow_is_eulers_method_on_the_guided_model() -> None:
    model = _dit(learned_variance=False).train()
    drawn = ArchitecturePipeline(model)(LABELS, steps=3, guidance=2.0, generator=_seed())
    noise = torch.randn(2, 3, 8, 8, generator=_seed())
    predict = guided(model, LABELS, torch.full((2,), 4), 2.0)
    torch.testing.assert_close(drawn.pictures, rectified_flow(predict, noise, steps=3))
    assert model.training and [image.size for image in drawn.images] == [(8, 8)] * 2


def test_ddpm_guides_the_first_channels() -> None:
    model, generator = _dit(), _seed()
    pipe = ArchitecturePipeline(model, objective="ddpm")
    drawn = pipe(LABELS, steps=4, guidance=3.0, guided_channels=2, generator=_seed())
    noise = torch.randn(2, 3, 8, 8, generator=generator)
    predict = guided(model, LABELS, torch.full((2,), 4), 3.0, 2)
    with torch.no_grad():
        torch.testing.assert_close(drawn.pictures, ddpm(predict, noise, steps=4, generator=generator))


def test_what_is_stored_draws_the_same(tmp_path: Path) -> None:
    model = _dit()
    model.save_pretrained(tmp_path)
    pipes = (ArchitecturePipeline(model), ArchitecturePipeline.from_pretrained(tmp_path))
    first, second = (pipe(LABELS, steps=2, generator=_seed()).pictures for pipe in pipes)
    assert torch.equal(first, second)


def test_latents_are_decoded() -> None:
    widths = {"block_out_channels": (8,), "norm_num_groups": 4, "latent_channels": 3}
    vae = AutoencoderKL(**widths, scaling_factor=0.5)  # type: ignore[arg-type]
    pipe = ArchitecturePipeline(_dit(), decode=vae_decoder(vae))
    latents = ArchitecturePipeline(_dit())(LABELS, steps=2, generator=_seed()).pictures
    with torch.no_grad():
        wanted = vae.decode(latents / 0.5).sample
    torch.testing.assert_close(pipe(LABELS, steps=2, generator=_seed()).pictures, wanted)


def test_words_and_any_side() -> None:
    words = torch.randn(2, 16, 12)
    model = EMMDiT(
        groups=(1, 1, 1), patterns=((1, 1),), width=16, heads=2, side=8, channels=3, words_width=12, time_scale=1000.0
    )
    assert ArchitecturePipeline(model)(words, steps=2, null=words[:1], guidance=2.0).pictures.shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match=r"guidance=2.0 needs null, the words of an empty caption"):
        ArchitecturePipeline(model)(words, steps=2, guidance=2.0)
    dico = DiCo(width=4, depths=(1, 1, 1, 1, 1), channels=3, classes=4)
    assert ArchitecturePipeline(dico)(LABELS, steps=1, side=12).pictures.shape == (2, 3, 12, 12)
    with pytest.raises(ValueError, match="DiCo is made for any side; give side="):
        ArchitecturePipeline(dico)(LABELS)


def test_films_are_refused() -> None:
    film = PTDiT(depth=1, width=32, heads=2, side=8, frames=2, words_width=12, window=(1, 2, 2))
    with pytest.raises(ValueError, match="frames=2: films are drawn by runs.rectified_flow"):
        ArchitecturePipeline(film)(torch.randn(1, 5, 12))


def test_unknown_objective() -> None:
    with pytest.raises(ValueError, match="objective='edm' is unknown; choose one of flow, ddpm"):
        ArchitecturePipeline(_dit(), objective="edm")  # type: ignore[arg-type]
