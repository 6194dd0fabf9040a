"""Single frames train the same weights as clips, by the same function."""

import numpy as np
import pytest
import torch

from saccade.train.autoencoder import AutoencoderLoss
from saccade.train.still_twin import still_twin
from saccade.train.video_autoencoder import VideoAutoencoderStage, VideoAutoencoderTask
from tests.train.tiny_video import MODEL


def test_the_twin_is_the_autoencoder_on_single_frames() -> None:
    torch.manual_seed(0)
    vae = MODEL.autoencoder().double()
    twin, still = still_twin(vae), torch.rand(2, 3, 1, 32, 32, dtype=torch.float64)
    latents = vae.encode(still).latent_dist.mean
    torch.testing.assert_close(twin.encode(still).latent_dist.mean, latents, rtol=0, atol=1e-12)
    torch.testing.assert_close(twin.decode(latents).sample, vae.decode(latents).sample, rtol=0, atol=1e-12)


def test_gradients_of_stills_are_those_of_the_autoencoder() -> None:
    torch.manual_seed(0)
    vae = MODEL.autoencoder().double()
    still, found = torch.rand(2, 3, 1, 32, 32, dtype=torch.float64), []
    for model in (vae, still_twin(vae)):
        vae.zero_grad()
        model.decode(model.encode(still).latent_dist.mean).sample.square().mean().backward()
        found.append({name: p.grad.clone() for name, p in vae.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and "decoder.conv_in.weight" in found[0]
    for name, grad in found[0].items():
        torch.testing.assert_close(found[1][name], grad, rtol=0, atol=1e-12)


def test_a_loss_keeps_one_set_of_weights() -> None:
    vae = MODEL.autoencoder()
    assert [*AutoencoderLoss(vae, 0.0).state_dict()] == [f"vae.{name}" for name in vae.state_dict()]


@pytest.mark.parametrize(("stills", "shape"), [(0.0, (2, 3, 5, 16, 16)), (1.0, (6, 3, 1, 16, 16))])
def test_a_step_takes_clips_or_single_frames(stills: float, shape: tuple[int, ...]) -> None:
    stage = VideoAutoencoderStage(batch=2, still_batch=6, stills=stills, pool=3)
    pool = np.random.default_rng(0).integers(256, size=(3, 5, 16, 16, 3), dtype=np.uint8)
    batch = VideoAutoencoderTask(MODEL.autoencoder(), stage, pool).batch(np.random.default_rng(1))
    assert batch.shape == shape


def test_a_share_is_a_share() -> None:
    with pytest.raises(ValueError, match="stills=1.5 must"):
        VideoAutoencoderStage(stills=1.5)
