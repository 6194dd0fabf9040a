"""The video recipe from its first stage to the measured, loadable pipeline, and what each stage learns from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
from transformers.models.t5.modeling_t5 import T5EncoderModel

from saccade.data.scenes import MOTIONS, RELATIONS, describe_video, judge_video, render_video
from saccade.models import path
from saccade.models.scene_words import PAD
from saccade.models.scenes_wan import umt5_weights
from saccade.train.autoencoder import reconstruct
from saccade.train.latent_cache import encode_videos
from saccade.train.pictures import clips, to_bytes, to_tensor, videos
from saccade.train.text import embed, t5_ids, video_targets
from saccade.train.video_evaluation import held_out, video_rates
from saccade.train.video_flow import VideoFlowStage, VideoFlowTask
from saccade.train.video_sampling import draw_videos
from tests.train.tiny_video import FLOW, MODEL, RECIPE

pytestmark = pytest.mark.host
CAPTION = "a red circle moving up and a blue square staying still"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    RECIPE.run(folder)
    return folder


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> VideoFlowTask:
    torch.manual_seed(0)
    pipe = MODEL.pipeline()
    for parameter in pipe.transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return VideoFlowTask(pipe, FLOW, tmp_path_factory.mktemp("flow"))


@pytest.mark.slow
def test_what_is_exported_is_what_was_trained(out: Path) -> None:
    pipe = WanPipeline.from_pretrained(out / "pipeline")
    again = WanPipeline.from_pretrained(RECIPE.run(out, ("export",)))
    for name in ("vae", "transformer", "text_encoder"):
        part, same = getattr(pipe, name), getattr(again, name)
        assert part.dtype == torch.float32
        assert all(torch.equal(value, same.state_dict()[key]) for key, value in part.state_dict().items())
    average = torch.load(out / "flow" / "checkpoint.pt", weights_only=True)["average"]
    trained = {f"transformer.{name}": value for name, value in pipe.transformer.state_dict().items()}
    assert all(torch.equal(value, average[name].half().float()) for name, value in trained.items())
    assert len(set(pipe.vae.config.latents_mean)) == MODEL.latent_channels


@pytest.mark.slow
def test_measurements_name_their_circumstances(out: Path) -> None:
    plain, guided = json.loads((out / "pipeline" / "measured.json").read_text())["measured"]
    assert (plain["guidance"], guided["guidance"]) == (1, 2)
    assert {"steps", "frames", "side", "seed", "captions", "split", "shift"} <= plain.keys()
    assert 0 <= plain["things=1"]["steady"] <= 1
    assert plain["things=1"]["relation"] is None
    assert (out / "pipeline" / "samples.png").stat().st_size > 0


@pytest.mark.slow
def test_a_stage_of_other_words_is_not_gone_on_with(out: Path) -> None:
    with pytest.raises(ValueError, match="words:  there, scenes-flux here"):
        replace(RECIPE, words="scenes-flux").run(out, ("text",))


@torch.no_grad()
def test_training_shows_the_transformer_what_the_pipeline_shows_it(task: VideoFlowTask) -> None:
    pipe, seen = task.pipe, {}

    def look(module: torch.nn.Module, args: tuple[()], given: dict[str, torch.Tensor]) -> None:
        seen.update(given)

    handle = pipe.transformer.register_forward_pre_hook(look, with_kwargs=True)
    draw_videos(pipe, [CAPTION], steps=1, text_tokens=40)
    handle.remove()
    torch.testing.assert_close(seen["encoder_hidden_states"], task._encode([CAPTION], 40))
    assert seen["timestep"] == 1000
    assert seen["hidden_states"].shape == (1, *task.pools[9].latents.shape[1:])


def test_padding_leaves_an_embedding_alone(task: VideoFlowTask) -> None:
    ids = t5_ids([CAPTION])
    words = embed(task.pipe.text_encoder, ids)
    alone = embed(task.pipe.text_encoder, ids[:, : len(CAPTION.split())])
    torch.testing.assert_close(words[:, : alone.shape[1]], alone)
    assert not words[ids == PAD].any()
    assert embed(task.pipe.text_encoder, t5_ids([""])).isfinite().all()


def test_the_random_state_alone_decides_a_batch(task: VideoFlowTask) -> None:
    first, second, other = (task.batch(np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["t"], other["t"][: len(first["t"])])


def test_stills_are_first_frames_of_videos(task: VideoFlowTask) -> None:
    batches = [task.batch(np.random.default_rng(seed)) for seed in range(8)]
    stills = [batch["latents"] for batch in batches if batch["latents"].shape[2] == 1]
    assert 0 < len(stills) < 8 and all(still.shape == (5, 4, 1, 12, 12) for still in stills)
    first = torch.tensor(np.array(task.pools[9].latents[:, :, :1], np.float32))
    assert all((first - one).abs().amax((1, 2, 3, 4)).min() == 0 for still in stills for one in still)


def test_the_loss_vanishes_for_the_true_velocity(task: VideoFlowTask, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = task.batch(np.random.default_rng(0))
    monkeypatch.setattr(task.module.transformer, "forward", lambda **given: (batch["noise"] - batch["latents"],))
    assert task.module(batch)["loss"] == 0
    monkeypatch.setattr(task.module.transformer, "forward", lambda **given: (0 * batch["noise"],))
    assert task.module(batch)["loss"] > 0.5


def test_cached_latents_decode_to_the_videos(task: VideoFlowTask) -> None:
    pool, vae = task.pools[13], task.pipe.vae
    assert pool.latents.shape == (2, 4, 7, 12, 12)
    assert np.array_equal(encode_videos(vae, pool.scenes, 48), pool.latents)
    shown = reconstruct(vae, clips(pool.scenes, 48))
    again = to_bytes(vae.decode(torch.tensor(np.array(pool.latents, np.float32))).sample)
    assert np.abs(shown.astype(int) - again).max() <= 2  # half precision; means 0 and deviations 1 here


def test_a_video_depends_on_its_own_seed_only(task: VideoFlowTask) -> None:
    both = draw_videos(task.pipe, [CAPTION, CAPTION], steps=2)
    assert both.shape == (2, 9, 48, 48, 3)
    assert np.abs(both[1].astype(int) - draw_videos(task.pipe, [CAPTION], steps=2, seed=1)[0]).max() <= 1


def test_videos_survive_as_tensors() -> None:
    shown = clips(videos(2, seed=0, frames=9), 48)
    assert np.array_equal(to_bytes(to_tensor(shown)), shown)


def test_targets_say_how_each_thing_moves_and_how_two_end() -> None:
    rng = np.random.default_rng(2)
    captions = [describe_video(video, rng) for video in videos(30, seed=2, frames=9, counts=(1, 2))]
    batch = video_targets(captions)
    assert [MOTIONS[i] for i in batch["motion"]] == [move for caption in captions for move in caption.motions]
    names, row = [*RELATIONS, None], 0
    for caption in captions:
        if said := caption.end.relations:
            assert names[batch["end"][row]] == said[0][1]
            assert names[batch["end"][row + 1]] != said[0][1]
        row += len(caption.motions)
    assert row == len(batch["rows"]) == len(batch["end"])


def test_true_videos_keep_every_promise() -> None:
    prompts = held_out(3, frames=9, count=1)[1]
    shown = [render_video(video, 48) for video in videos(3, seed=2025, frames=9, counts=(1,), split="held-out")]
    rates = video_rates([judge_video([*video], prompt) for video, prompt in zip(shown, prompts, strict=True)])
    assert rates["all"] == rates["steady"] == rates["motion"] == rates["start"] == rates["end"] == 1
    swapped = video_rates([judge_video([*video], prompts[0]) for video in shown[1:]])
    assert swapped["all"] == 0


def test_stages_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="an entry for each number of frames"):
        VideoFlowStage(frames=(9,))
    with pytest.raises(ValueError, match="must be of one length; give each a share"):
        VideoFlowStage(padded=(32,))


def test_the_recipe_takes_over_the_words_of_the_pictures() -> None:
    recipe = replace(RECIPE, words="scenes-flux", model=replace(MODEL, text_dim=128, text_heads=4, text_layers=3))
    t5 = T5EncoderModel.from_pretrained(path("scenes-flux"), subfolder="text_encoder_2")
    weights = umt5_weights(t5)
    assert all(torch.equal(value, weights[name]) for name, value in recipe._fresh().text_encoder.state_dict().items())
