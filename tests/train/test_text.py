"""Tokens and targets of captions."""

import numpy as np
import pytest
import torch

from saccade.data.scenes import COLOURS, PLACES, RELATIONS, SHAPES, Prompt, Want, describe, sample
from saccade.models.scene_words import END, PAD, clip_tokenizer, t5_tokenizer, word_ids
from saccade.train.text import clip_ids, t5_ids, targets

PROMPT = Prompt(
    text="a large red circle at the top and a blue square left of a red cross on a gray background",
    wants=(
        Want(colour="red", shape="circle", size="large", place="top"),
        Want(colour="blue", shape="square"),
        Want(colour="red", shape="cross"),
    ),
    background="gray",
    relations=((0, "left of", 2), (1, "left of", 2)),
)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return ["", *(describe(sample(rng), rng).text for _ in range(20))]


def test_training_tokens_are_the_pipelines(texts: list[str]) -> None:
    tokens = t5_tokenizer()(texts, padding="max_length", max_length=25, truncation=True, return_tensors="pt").input_ids
    assert torch.equal(t5_ids(texts), tokens)
    marked = clip_tokenizer()(
        texts, padding="max_length", max_length=26, truncation=True, return_tensors="pt"
    ).input_ids
    assert torch.equal(clip_ids(texts), marked)


def test_every_caption_leaves_a_pad_and_has_its_end(texts: list[str]) -> None:
    assert (t5_ids(texts)[:, -1] == PAD).all()
    assert ((clip_ids(texts) == END).sum(1) == 1).all()


def test_targets_stand_at_the_shape_words() -> None:
    batch = targets([PROMPT])
    words = {token: word for word, token in word_ids().items()}
    assert [words[int(batch["t5"][0, i])] for i in batch["at"]] == ["circle", "square", "cross"]
    assert [list(COLOURS)[i] for i in batch["colour"]] == ["red", "blue", "red"]
    assert [list(SHAPES)[i] for i in batch["shape"]] == ["circle", "square", "cross"]
    assert batch["place"].tolist() == [list(PLACES).index("top"), len(PLACES), len(PLACES)]


def test_a_relation_reads_inversely_from_its_second_thing() -> None:
    batch = targets([PROMPT])
    assert [list(RELATIONS)[i] for i in batch["relation"]] == ["left of", "left of", "right of"]
    assert batch["partners"].sum(1).tolist() == [1, 1, 2]
