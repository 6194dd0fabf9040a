"""The scenes pipeline: its tokenizers, its pads, and the weights that ship."""

from pathlib import Path

import numpy as np
import pytest
import torch

from saccade.data.scenes import Prompt, Want, judge, vocabulary
from saccade.models import PIPELINES, path
from saccade.models.scene_words import UNKNOWN, clip_tokenizer, t5_tokenizer
from saccade.models.scenes_flux import ScenesFlux, pin_pads_
from tests.train.tiny import MODEL

MAX_BYTES = 12_000_000
CAPTION = "a large red circle at the left and a blue square"


@pytest.mark.parametrize("tokenizer", [t5_tokenizer(), clip_tokenizer()], ids=["t5", "clip"])
def test_every_word_of_the_scenes_is_a_token(tokenizer: object) -> None:
    assert callable(tokenizer)
    for word in vocabulary():
        tokens = tokenizer(word, add_special_tokens=False).input_ids
        assert len(tokens) == 1
        assert tokens != [UNKNOWN]
    assert tokenizer("zebra", add_special_tokens=False).input_ids == [UNKNOWN]


@pytest.mark.host
@torch.no_grad()
def test_a_caption_reads_the_same_at_any_padding() -> None:
    torch.manual_seed(0)
    pipe, count = MODEL.pipeline(), len(CAPTION.split())
    short, long = (pipe._get_t5_prompt_embeds(CAPTION, max_sequence_length=n) for n in (count + 1, 512))
    torch.testing.assert_close(short[:, :count], long[:, :count], atol=1e-6, rtol=1e-5)
    assert long[:, count:].abs().max() < 0.05 * long[:, :count].abs().max()


@pytest.mark.host
def test_pinning_twice_changes_nothing() -> None:
    t5 = MODEL.pipeline().text_encoder_2
    before = {name: value.clone() for name, value in t5.state_dict().items()}
    pin_pads_(t5)
    assert all(torch.equal(value, before[name]) for name, value in t5.state_dict().items())


@pytest.mark.host
@torch.no_grad()
def test_without_pins_padding_would_change_a_caption() -> None:
    torch.manual_seed(0)
    t5 = MODEL.t5()
    ids = torch.full((1, 64), 0)
    ids[0, :3] = torch.tensor([5, 6, 7])
    short, long = t5(input_ids=ids[:, :4])[0][:, :3], t5(input_ids=ids)[0][:, :3]
    assert (short - long).abs().max() > 0.01


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rope_axes=\(8, 8, 8\) must add up to head_dim=64"):
        ScenesFlux(rope_axes=(8, 8, 8))
    with pytest.raises(ValueError, match="hidden=100 must be a multiple of head_dim=64"):
        ScenesFlux(hidden=100)


def test_an_unknown_model_lists_the_bundled_ones() -> None:
    with pytest.raises(ValueError, match="name='flux' is no bundled model; choose one of scenes-flux, scenes-wan"):
        path("flux")


@pytest.mark.parametrize("name", PIPELINES)
def test_the_shipped_directory_stays_small(name: str) -> None:
    files = [file for file in Path(path(name)).rglob("*") if file.is_file()]
    assert files
    assert sum(file.stat().st_size for file in files) <= MAX_BYTES


@pytest.mark.host
@pytest.mark.slow
def test_the_shipped_pipeline_draws_what_it_is_told() -> None:
    from diffusers.pipelines.flux.pipeline_flux import FluxPipeline

    pipe = FluxPipeline.from_pretrained(path("scenes-flux"))
    pipe.set_progress_bar_config(disable=True)
    wants = (
        Want(colour="red", shape="circle", size="large", place="left"),
        Want(colour="blue", shape="square", place="right"),
    )
    text = "a large red circle at the left and a blue square at the right on a black background"
    image = pipe(
        text, num_inference_steps=20, height=64, width=64, generator=torch.Generator().manual_seed(0), output_type="np"
    ).images[0]
    picture = (np.asarray(image) * 255).round().astype(np.uint8)
    assert judge(picture, Prompt(text=text, wants=wants, background="black")).all
