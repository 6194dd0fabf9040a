"""Token positions of words, by the tokenizers of real pipeline classes."""

from types import SimpleNamespace
from typing import Any

import pytest

from saccade.models.scene_words import MAX_CLIP
from saccade.pipelines.words import count_tokens, word_tokens
from tests.tiny_flux import tiny_flux
from tests.tiny_sd3 import tiny_sd3
from tests.tiny_videos import tiny_hunyuan

pytestmark = pytest.mark.host
CAPTION = "a large red circle left of a blue square"


def words_at(pipe: Any, word: str, prompt: str = CAPTION) -> list[int]:
    """By hand: T5 reads one token a word, without a mark at the beginning."""
    return [i for i, w in enumerate(prompt.split()) if w in word.split()]


@pytest.mark.parametrize("word", ["circle", "red circle", "square", "Blue"])
def test_flux_reads_t5_only(word: str) -> None:
    pipe = tiny_flux()
    assert word_tokens(pipe, CAPTION, word) == tuple(words_at(pipe, word.lower()))


def test_the_first_occurrence_counts_and_parts_of_words_do_not() -> None:
    pipe = tiny_flux()
    assert word_tokens(pipe, "a cross left of a cross", "cross") == (1,)
    assert word_tokens(pipe, "a square on a red", "a") == (0,)
    assert word_tokens(pipe, "squared circle a square", "square") == (3,)


def test_sd3_reads_clip_and_then_t5() -> None:
    pipe = tiny_sd3()
    assert word_tokens(pipe, CAPTION, "circle") == (1 + 3, MAX_CLIP + 3)  # CLIP's begin mark, then T5's own numbers
    pipe.text_encoder_3 = None
    assert word_tokens(pipe, CAPTION, "circle") == (4,)


def test_hunyuan_video_reads_a_prompt_within_a_text_of_its_own() -> None:
    pipe = tiny_hunyuan()
    prompts = (CAPTION, CAPTION.replace("circle", "star"))
    read = [pipe.encode_prompt(prompt, max_sequence_length=32)[0][0] for prompt in prompts]
    before = [i for i, (one, other) in enumerate(zip(*read, strict=True)) if not one.equal(other)][0]
    (at,) = word_tokens(pipe, CAPTION, "circle", 32)
    assert at == before == word_tokens(pipe, "a circle", "circle")[0] + 2
    assert count_tokens(pipe, CAPTION) == int(pipe.encode_prompt(CAPTION)[2].sum())
    with pytest.raises(ValueError, match="word='circle' lies beyond the 7 tokens read of the prompt"):
        word_tokens(pipe, CAPTION, "circle", 7)


def test_a_word_that_is_not_there_is_named() -> None:
    pipe = tiny_flux()
    with pytest.raises(ValueError, match="word='cat' is not in the prompt 'a large red circle"):
        word_tokens(pipe, CAPTION, "cat")
    with pytest.raises(ValueError, match="word='circl' is not in the prompt"):
        word_tokens(pipe, CAPTION, "circl")
    with pytest.raises(ValueError, match="word=' ' is not in the prompt"):
        word_tokens(pipe, CAPTION, " ")


def test_a_word_beyond_truncation_is_named() -> None:
    pipe = tiny_flux()
    assert word_tokens(pipe, CAPTION, "square", max_sequence_length=9) == (8,)
    with pytest.raises(ValueError, match="word='square' lies beyond the 8 tokens read of the prompt; name it earlier"):
        word_tokens(pipe, CAPTION, "square", max_sequence_length=8)


def test_a_pipeline_nobody_knows_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="pipe=SimpleNamespace is not among CogVideoXPipeline, FluxPipeline"):
        word_tokens(SimpleNamespace(), CAPTION, "circle")


@pytest.mark.parametrize(
    ("name", "prompt"),
    [("WanPipeline", CAPTION), ("CogVideoXPipeline", CAPTION), ("PixArtSigmaPipeline", CAPTION.upper())],
)
def test_pipelines_of_one_encoder_are_read_by_their_class(name: str, prompt: str) -> None:
    flux = tiny_flux()
    pipe = type(name, (), {"tokenizer": flux.tokenizer_2, "text_encoder": flux.text_encoder_2})()
    assert word_tokens(pipe, prompt, "blue square") == (7, 8)
