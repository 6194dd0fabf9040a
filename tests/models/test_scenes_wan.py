"""The scenes video pipeline: real upstream classes, small; its text encoder is that of the pictures to the bit."""

import pytest
import torch

from saccade.metrics.output import pictures
from saccade.models import CALLS
from saccade.models.scene_words import PAD
from saccade.models.scenes_flux import ScenesFlux
from saccade.models.scenes_wan import SPACE_FACTOR, TIME_FACTOR, ScenesWan, standardise_, umt5_weights
from saccade.pipelines.loading import load_pipeline
from tests.train.tiny_video import MODEL

CAPTION = "a large red circle moving left then right"
RED = "a large red circle moving right on a white background"


@pytest.mark.host
@torch.no_grad()
def test_a_umt5_takes_over_what_a_t5_has_learnt() -> None:
    torch.manual_seed(0)
    t5 = ScenesFlux(text_dim=32, text_heads=2, t5_layers=3).t5()
    for parameter in t5.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    umt5 = ScenesWan(text_dim=32, text_heads=2, text_layers=3).text_encoder()
    umt5.load_state_dict(umt5_weights(t5))
    ids = torch.tensor([[5, 6, 7, 8, 9], [10, 11, 12, PAD, PAD]])
    mask = (ids != PAD).long()
    expected, found = (encoder(ids, mask).last_hidden_state for encoder in (t5, umt5))
    assert torch.equal(found[mask == 1], expected[mask == 1])
    biases = [name for name, value in umt5.state_dict().items() if "relative" in name]
    assert len(biases) == 3


@pytest.mark.host
@torch.no_grad()
def test_latents_are_smaller_by_the_factors_named() -> None:
    vae = MODEL.autoencoder()
    latents = vae.encode(torch.zeros(1, 3, 13, 48, 64)).latent_dist.mean
    assert latents.shape == (1, 4, 1 + 12 // TIME_FACTOR, 48 // SPACE_FACTOR, 64 // SPACE_FACTOR)
    assert vae.decode(latents).sample.shape == (1, 3, 13, 48, 64)


@pytest.mark.host
def test_latents_are_centred_by_channel_and_scaled_by_one_deviation() -> None:
    torch.manual_seed(0)
    vae, scales = MODEL.autoencoder(), torch.tensor([1.0, 2.0, 3.0, 0.1])[:, None, None, None]
    latents = scales * torch.randn(8, 4, 3, 6, 6) + 5
    standardise_(vae, latents)
    mean, deviation = (torch.tensor(vae.config[name]) for name in ("latents_mean", "latents_std"))
    assert deviation.unique().numel() == 1
    scaled = (latents - mean[:, None, None, None]) / deviation[:, None, None, None]
    assert scaled.transpose(0, 1).flatten(1).mean(1).abs().max() < 1e-4
    assert abs(scaled.std() - 1) < 1e-4


@pytest.mark.host
def test_the_pipeline_draws_videos_of_any_length_at_the_default_padding() -> None:
    pipe = MODEL.pipeline()
    pipe.set_progress_bar_config(disable=True)
    for frames in (9, 17):
        made = pipe(CAPTION, height=48, width=48, num_frames=frames, num_inference_steps=1, output_type="np").frames
        assert made.shape == (1, frames, 48, 48, 3)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden=100 must be a multiple of head_dim=48"):
        ScenesWan(hidden=100)
    with pytest.raises(ValueError, match=r"autoencoder_widths=\(1, 2, 2\) must be two"):
        ScenesWan(autoencoder_widths=(1, 2, 2))


@pytest.mark.host
@pytest.mark.slow
def test_the_shipped_pipeline_draws_what_it_is_told_and_twice_as_long() -> None:
    pipe = load_pipeline("scenes-wan")
    pipe.set_progress_bar_config(disable=True)
    for frames in (9, 17):
        given = {**CALLS["scenes-wan"], "num_frames": frames}
        noise = torch.Generator().manual_seed(0)
        video = pictures(pipe(RED, generator=noise, output_type="np", **given))[0]
        assert video.shape == (frames, 48, 48, 3)
        corner, reds = video[:, :4, :4].mean((1, 2)), (video[..., 0] - video[..., 1:].max(-1) > 0.3).mean((1, 2))
        assert corner.min() > 0.8 and reds.min() > 0.02, "every frame shows something red on white"
