"""Sampling of scenes by the real pipeline: a loop written down, known scenes bit for bit, and stories that slide."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
)  # fmt: skip
from torch import Tensor
from transformers import T5Config, T5EncoderModel

from saccade.attach import attach
from saccade.models.scene_words import t5_tokenizer, word_ids
from saccade.papers.mask2dit import (
    KnownScenes,
    Mask2DiT,
    Sampling,
    Words,
    decode,
    embed,
    encode,
    extend,
    sample_scenes,
    story,
)  # fmt: skip
from tests.papers.mask2dit.three_scenes import FRAMES, SCENES, SIDE, TEXT, model

pytestmark = pytest.mark.host
OPTIONS = Sampling(frames=5, height=8 * SIDE, width=8 * SIDE, steps=3)
CAPTIONS = ("a red circle", "a blue square", "a green star")


def pipeline(**parts: Any) -> CogVideoXPipeline:
    """Without a decoder: a latent is 8 x 8 pixels and 4 frames."""
    given = {
        "transformer": model(2, torch.float32),
        "scheduler": CogVideoXDDIMScheduler(prediction_type="v_prediction"),
    }
    pipe = CogVideoXPipeline(**{"tokenizer": None, "text_encoder": None, "vae": None, **given, **parts})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def words(scenes: int = SCENES, seed: int = 3) -> Words:
    g = torch.Generator().manual_seed(seed)
    captions, negative = (torch.randn(1, scenes * TEXT, 12, generator=g) for _ in range(2))
    return Words(captions=captions, negative=negative, scenes=scenes)


def known(clips: int = SCENES - 1) -> Tensor:
    return torch.randn(1, clips * FRAMES, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def written_out(pipe: Any, said: Words, x: Tensor, held: Tensor | None, clip: int | None) -> Tensor:
    """CFG and DDIM step by step, known clips put back after each."""
    pipe.scheduler.set_timesteps(OPTIONS.steps)
    rotary = pipe._prepare_rotary_positional_embeddings(OPTIONS.height, OPTIONS.width, x.shape[1], x.device)
    both = torch.cat((said.negative, said.captions))
    for t in pipe.scheduler.timesteps:
        with (
            KnownScenes(pipe.transformer, scenes=SCENES) as scenes,
            scenes.holding(clip),
            attach(pipe.transformer, Mask2DiT(text_tokens=TEXT)),
            torch.no_grad(),
        ):
            v = pipe.transformer(
                hidden_states=torch.cat((x, x)), encoder_hidden_states=both, timestep=t.expand(2),
                image_rotary_emb=rotary, return_dict=False,
            )[0]  # fmt: skip
        x = pipe.scheduler.step(v[:1] + OPTIONS.guidance * (v[1:] - v[:1]), t, x, return_dict=False)[0]
        if held is not None:
            x = torch.cat((held, x[:, held.shape[1] :]), dim=1)
    return x


def test_fixed_scenes_are_one_row_under_guidance() -> None:
    pipe = pipeline()
    start = torch.randn(1, SCENES * FRAMES, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = sample_scenes(pipe, words(), OPTIONS)
    torch.testing.assert_close(found, written_out(pipe, words(), start, None, None), atol=1e-5, rtol=1e-4)
    plain = sample_scenes(pipe, words(), replace(OPTIONS, mask="none"))
    assert (found - plain).abs().max() > 1e-3


def test_an_extension_leaves_known_scenes_to_the_bit_and_makes_one_more() -> None:
    pipe, there = pipeline(), known()
    start = torch.randn(1, SCENES * FRAMES, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = extend(pipe, there, words(), OPTIONS)
    assert torch.equal(found[:, : there.shape[1]], there)
    begin = torch.cat((there, start[:, there.shape[1] :]), dim=1)
    torch.testing.assert_close(found, written_out(pipe, words(), begin, there, 2), atol=1e-5, rtol=1e-4)
    same = extend(pipe, there, words(), replace(OPTIONS, segmented=False))
    torch.testing.assert_close(same, written_out(pipe, words(), begin, there, None), atol=1e-5, rtol=1e-4)
    assert (same - found).abs().max() > 1e-4 and torch.equal(same[:, : there.shape[1]], there)


def test_known_scenes_may_have_the_noise_of_timestep_0() -> None:
    pipe, there = pipeline(), known()
    found = extend(pipe, there, words(), replace(OPTIONS, held="noised"))[:, : there.shape[1]]
    level = pipe.scheduler.alphas_cumprod[0]
    start = torch.randn(1, SCENES * FRAMES, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    noised = level.sqrt() * there + (1 - level).sqrt() * start[:, : there.shape[1]]
    torch.testing.assert_close(found, noised)
    assert (found - there).abs().max() > 1e-3


def test_the_pipeline_is_left_as_it_was() -> None:
    pipe = pipeline()
    looks = repr(pipe.transformer)
    extend(pipe, known(), words(), OPTIONS)
    assert repr(pipe.transformer) == looks and not hasattr(pipe.transformer, "_saccade_known_scenes")
    assert all("forward" not in vars(m) for m in pipe.transformer.modules())


def test_a_host_with_a_table_of_places_samples_all_scenes() -> None:
    pipe = pipeline(transformer=model(1, torch.float32, use_rotary_positional_embeddings=False))
    assert sample_scenes(pipe, words(), OPTIONS).isfinite().all()


def whole_pipeline() -> CogVideoXPipeline:
    """With a text encoder and an autoencoder."""
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(word_ids()), d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=2,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
    )  # fmt: skip
    return pipeline(tokenizer=t5_tokenizer(), text_encoder=T5EncoderModel(config).eval(), vae=vae.eval())


def test_stories_slide_and_clips_are_coded_each_by_itself() -> None:
    pipe, said = whole_pipeline(), {"scenes": 2, "text_tokens": TEXT}
    options, length = replace(OPTIONS, frames=9), 3
    latents = story(pipe, CAPTIONS, options, **said)
    assert latents.shape == (1, 3 * length, 4, SIDE, SIDE)
    two = sample_scenes(pipe, embed(pipe, CAPTIONS[:2], text_tokens=TEXT), options)
    assert torch.equal(latents[:, : 2 * length], two)
    later = replace(options, seed=2)
    more = extend(pipe, two[:, length:], embed(pipe, CAPTIONS[1:], text_tokens=TEXT), later)
    assert torch.equal(latents[:, length:], more)
    videos = decode(pipe, latents, 3)
    assert [video.shape for video in videos] == [(9, 32, 32, 3)] * 3
    assert (decode(pipe, latents[:, length : 2 * length], 1)[0] == videos[1]).all()
    clips = torch.rand(2, 3, 9, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    coded = encode(pipe, clips)
    assert coded.shape == (2, length, 4, SIDE, SIDE) and torch.equal(coded[1:], encode(pipe, clips[1:]))
    each = embed(pipe, CAPTIONS[1:2], text_tokens=TEXT).captions
    torch.testing.assert_close(embed(pipe, CAPTIONS, text_tokens=TEXT).captions[:, TEXT : 2 * TEXT], each)


@pytest.mark.bad_input
def test_what_cannot_be_sampled_is_named() -> None:
    pipe = pipeline()
    with pytest.raises(ValueError, match="frames=6 of a clip must be 4k [+] 1, such as 49"):
        Sampling(frames=6)
    with pytest.raises(ValueError, match="mask='all' is unknown"):
        Sampling(mask="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="held='dirty' is unknown; choose one of clean, noised"):
        Sampling(held="dirty")  # type: ignore[arg-type]
    for there in (known(1), known(3), known()[:, :, :, :2]):
        with pytest.raises(ValueError, match="must be 2 clips of 2 latent frames"):
            extend(pipe, there, words(), OPTIONS)
    with pytest.raises(ValueError, match="CogVideoXDPMScheduler cannot hold known scenes.*CogVideoXDDIMScheduler"):
        extend(pipeline(scheduler=CogVideoXDPMScheduler()), known(), words(), OPTIONS)
    with pytest.raises(ValueError, match="guidance=6.0 needs a negative prompt"):
        sample_scenes(pipe, Words(captions=words().captions, negative=None, scenes=SCENES), OPTIONS)
    with pytest.raises(ValueError, match=r"captions=\(\) names no scene"):
        embed(pipe, ())
    for scenes in (1, 4):
        with pytest.raises(ValueError, match=f"scenes={scenes} must be from 2 to the number of captions, 3"):
            story(pipe, CAPTIONS, OPTIONS, scenes=scenes)
    with pytest.raises(ValueError, match="clips of 6 frames must have 4k [+] 1"):
        encode(pipe, torch.zeros(1, 3, 6, 8, 8))
    pipe.transformer.register_to_config(patch_size_t=3)
    with pytest.raises(ValueError, match="frames=5 are 2 latent frames, no multiple of the patch of 3"):
        sample_scenes(pipe, words(), OPTIONS)
