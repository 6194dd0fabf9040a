"""Labels or words in, pictures out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_kl_hunyuanimage import AutoencoderKLHunyuanImage
from diffusers.models.autoencoders.autoencoder_kl_qwenimage import AutoencoderKLQwenImage
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

from saccade.models import ArchitecturePipeline, DiT
from saccade.models.pipeline import Drawn, vae_decoder
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


def _statistics(n: int) -> dict[str, Any]:
    return {"latents_mean": [0.1 * i - 0.2 for i in range(n)], "latents_std": [0.5 + i for i in range(n)]}


def _decoded(vae: Any, *, frames: bool = False, **wanted: float) -> None:
    """`vae_decoder` answers latents * std / scale + mean + shift, decoded."""
    vae.eval()
    latents = torch.randn(2, 4, 4, 4, generator=_seed())
    mean, std = (torch.tensor(_statistics(4)[name])[:, None, None] for name in ("latents_mean", "latents_std"))
    if not wanted.pop("statistics", 0):
        mean, std = torch.zeros(()), torch.ones(())
    plain = latents * std / wanted.get("scale", 1) + mean + wanted.get("shift", 0)
    with torch.no_grad():
        found = vae_decoder(vae)(latents)
        answer = vae.decode(plain[:, :, None]).sample[:, :, 0] if frames else vae.decode(plain).sample
    assert found.shape[:2] == (2, 3)
    torch.testing.assert_close(found, answer)


def test_the_statistics_of_latents_are_undone() -> None:
    widths = {"block_out_channels": (8,), "norm_num_groups": 4, "latent_channels": 4}
    _decoded(AutoencoderKL(**widths, scaling_factor=0.5, **_statistics(4)), scale=0.5, statistics=1)  # type: ignore[arg-type]
    _decoded(AutoencoderKL(**widths, scaling_factor=0.5, shift_factor=0.3), scale=0.5, shift=0.3)  # type: ignore[arg-type]


def test_an_autoencoder_of_video_decodes_one_frame() -> None:
    sizes: Any = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1], "num_res_blocks": 1, "temperal_downsample": [False]}
    _decoded(AutoencoderKLQwenImage(**sizes, **_statistics(4)), frames=True, statistics=1)
    _decoded(AutoencoderKLWan(**sizes, **_statistics(4)), frames=True, statistics=1)


def test_an_autoencoder_without_a_shift_decodes() -> None:
    blocks: Any = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in (
            ("block_types", ("ResBlock", "EfficientViTBlock")),
            ("block_out_channels", (8, 8)),
            ("qkv_multiscales", ((), (5,))),
            ("layers_per_block", (1, 1)),
        )
    }
    sizes: Any = {"latent_channels": 4, "attention_head_dim": 2, "downsample_block_type": "conv"}
    _decoded(AutoencoderDC(**sizes, **blocks, upsample_block_type="interpolate", scaling_factor=0.4), scale=0.4)
    _decoded(AutoencoderTiny(**_tiny(), scaling_factor=2.0), scale=2.0)


def _tiny() -> Any:
    widths = {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}
    return {**widths, "num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1), "latent_channels": 4}


def test_an_autoencoder_in_low_precision_takes_latents_in_high() -> None:
    widths: Any = {"block_out_channels": (8,), "norm_num_groups": 4, "latent_channels": 4}
    vae = AutoencoderKL(**widths).bfloat16()
    assert vae_decoder(vae)(torch.randn(1, 4, 4, 4)).dtype == torch.bfloat16


def test_an_autoencoder_whose_scaling_is_unknown_is_refused() -> None:
    for vae in (torch.nn.Linear(1, 1), AutoencoderKLHunyuanImage(*(3, 3, 4, (32, 32), 1, 2, 2))):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=f"vae={type(vae).__name__} has no scaling of its latents.*give .*decode="):
            vae_decoder(vae)
    widths: Any = {"block_out_channels": (8,), "norm_num_groups": 4, "latent_channels": 4}
    with pytest.raises(ValueError, match="latents_std of AutoencoderKL has 3 numbers for 4 channels"):
        vae_decoder(AutoencoderKL(**widths, **_statistics(3)))(torch.randn(1, 4, 4, 4))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pictures_that_are_not_finite_are_no_black_ones(value: float) -> None:
    message = "picture 1 of 2 holds NaN or infinity; draw in float32"

    def broken(latents: torch.Tensor) -> torch.Tensor:
        return latents.index_fill(0, torch.tensor([1]), value)

    with pytest.raises(ValueError, match=message):
        ArchitecturePipeline(_dit(learned_variance=False), decode=broken)(LABELS, steps=1)
    with pytest.raises(ValueError, match=message):
        _ = Drawn(broken(torch.zeros(2, 3, 4, 4))).images


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


def test_videos_are_refused() -> None:
    video = PTDiT(depth=1, width=32, heads=2, side=8, frames=2, words_width=12, window=(1, 2, 2))
    with pytest.raises(ValueError, match="frames=2: videos are drawn by runs.rectified_flow"):
        ArchitecturePipeline(video)(torch.randn(1, 5, 12))


def test_unknown_objective() -> None:
    with pytest.raises(ValueError, match="objective='edm' is unknown; choose one of flow, ddpm"):
        ArchitecturePipeline(_dit(), objective="edm")  # type: ignore[arg-type]
