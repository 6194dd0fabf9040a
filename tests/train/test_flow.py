"""The flow stage: what the transformer is shown in training is what the pipeline shows it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.models.scene_words import PAD
from saccade.train.autoencoder import reconstruct, standardise_
from saccade.train.flow import FlowStage, FlowTask, pad_bias
from saccade.train.latent_cache import encode
from saccade.train.pictures import pictures, scenes, to_bytes, to_tensor
from saccade.train.sampling import draw
from saccade.train.text import t5_ids
from tests.train.tiny import MODEL, STAGE

pytestmark = pytest.mark.host
CAPTION = "a red circle at the top and a blue square"


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> FlowTask:
    torch.manual_seed(0)
    pipe = MODEL.pipeline()
    for parameter in pipe.transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return FlowTask(pipe, STAGE, tmp_path_factory.mktemp("flow"))


@torch.no_grad()
def test_one_weighted_pad_acts_as_all_the_pads_of_the_pipeline(task: FlowTask) -> None:
    pipe, length = task.pipe, 120
    words, pooled, text_ids = pipe.encode_prompt(CAPTION, CAPTION, max_sequence_length=length)
    given = {"timestep": torch.tensor([0.5]), "pooled_projections": pooled, "img_ids": task._positions(64)["img_ids"]}
    given["hidden_states"] = torch.randn(1, 64, 16)
    full = pipe.transformer(encoder_hidden_states=words, txt_ids=text_ids, **given).sample
    is_pad = t5_ids([CAPTION]) == PAD
    bias = torch.cat((pad_bias(is_pad, torch.tensor([length])), torch.zeros(1, 64)), dim=1)[:, None, None]
    short = {"encoder_hidden_states": words[:, : is_pad.shape[1]], "txt_ids": text_ids[: is_pad.shape[1]]}
    weighted = pipe.transformer(**short, **given, joint_attention_kwargs={"attention_mask": bias}).sample
    unweighted = pipe.transformer(**short, **given).sample
    assert (weighted - full).abs().max() < 1e-2 * (unweighted - full).abs().max()


def test_pads_never_count_as_fewer_than_are_there() -> None:
    is_pad = torch.tensor([[False, True, True], [False, False, True]])
    bias = pad_bias(is_pad, torch.tensor([1, 12]))
    torch.testing.assert_close(bias.exp(), torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 10.0]]))


def test_the_random_state_alone_decides_a_batch(task: FlowTask) -> None:
    first, second, other = (task.batch(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["t"], other["t"][: len(first["t"])])


def test_pools_read_from_disk_are_those_made(task: FlowTask, tmp_path: Path) -> None:
    again = encode(task.pipe.vae, task.pools[64].scenes, 64)
    assert np.array_equal(again, task.pools[64].latents)
    assert task.pools[128].latents.shape == (4, 256, 16)


def test_stages_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="must be of one length, an entry for each side"):
        FlowStage(sides=(64, 128))


def test_latents_are_standardised(task: FlowTask) -> None:
    images = pictures(scenes(16, seed=3), 64)
    standardise_(task.pipe.vae, images)
    latents = torch.from_numpy(encode(task.pipe.vae, scenes(16, seed=3), 64)).float()
    assert abs(latents.mean()) < 0.01
    assert abs(latents.std() - 1) < 0.01
    assert reconstruct(task.pipe.vae, images).shape == images.shape


def test_pictures_survive_as_tensors() -> None:
    images = pictures(scenes(3, seed=0), 32)
    assert np.array_equal(to_bytes(to_tensor(images)), images)


def test_a_picture_depends_on_its_own_seed_only(task: FlowTask) -> None:
    task.pipe.set_progress_bar_config(disable=True)
    both = draw(task.pipe, [CAPTION, CAPTION], steps=2)
    assert both.shape == (2, 64, 64, 3)
    assert np.abs(both[1].astype(int) - draw(task.pipe, [CAPTION], steps=2, seed=1)[0]).max() <= 1
