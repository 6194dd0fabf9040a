"""Retrieval: exact neighbours, exclusion, what is missing is counted, and what does not fit is named."""

import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from saccade.papers.dit_mem import Bank, MemoryEncoder, VideoIndex, cls_embedder
from tests.papers.dit_mem.test_encoder import SMALL

WORDS = ("ball", "red", "blue", "falls", "rolls")


def embed(captions: Sequence[str]) -> np.ndarray:
    """Bags of words."""
    return np.array([[caption.split().count(word) for word in WORDS] for caption in captions], dtype=np.float32)


CAPTIONS = ("red ball falls", "blue ball falls", "red ball rolls", "blue ball rolls", "blue ball ball")


def index() -> VideoIndex:
    return VideoIndex.of(CAPTIONS, [f"v{i}" for i in range(len(CAPTIONS))], embed)


@given(n=st.integers(1, 30), k=st.integers(1, 8), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_neighbours_are_those_of_all_inner_products(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    bank, queries = rng.normal(size=(n, 4)), torch.from_numpy(rng.normal(size=(3, 4)))
    found = VideoIndex(bank, [str(i) for i in range(n)]).search(queries, k)
    unit, asked = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (bank, queries.numpy()))
    for hits, scores in zip(found, asked @ unit.T, strict=True):
        assert [hit.name for hit in hits] == [str(i) for i in np.argsort(-scores)[:k]]
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(scores)[::-1][:k], atol=1e-12)


def test_the_very_video_is_excluded_and_the_others_move_up() -> None:
    every = index().search(["red ball falls"], 3)[0]
    assert every[0].name == "v0" and every[0].score == pytest.approx(1)
    without = index().search(["red ball falls"], 3, exclude=[{"v0"}])[0]
    assert [hit.name for hit in without][:2] == [hit.name for hit in every[1:]] and len(without) == 3
    assert len(index().search(["red"], 9)[0]) == 5


def test_an_index_is_stored_and_read(tmp_path: Path) -> None:
    again = VideoIndex.load(index().save(tmp_path / "bank.npz"), embed=embed)
    assert again.search(["blue"], 2) == index().search(["blue"], 2)
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    with pytest.raises(ValueError, match="holds x, no index"):
        VideoIndex.load(tmp_path / "other.npz")


def bank(folder: Path, *names: str, sides: tuple[int, int, int] = (6, 9, 10)) -> Bank:
    for name in names:
        save_file({"latents": torch.full((3, *sides), float(name[1:]))}, folder / f"{name}.safetensors")
    return Bank(index=index(), read=folder)


def test_missing_files_are_counted_and_the_rest_is_memory(tmp_path: Path) -> None:
    found = bank(tmp_path, "v0", "v2", "v3", "v4").retrieve(["red red ball falls", "blue blue ball rolls"], 3)
    assert found.missing == ("v1",) and not found.complete
    assert [[hit.name for hit in hits] for hits in found.hits] == [["v0", "v2"], ["v3", "v4"]]
    assert found.stacked().shape == (2, 2, 3, 6, 9, 10)
    assert found.stacked()[1, 0].unique().tolist() == [3.0]
    assert str(found) == "4 of 6 videos read for 2 prompts; 1 missing: v1"
    tokens = MemoryEncoder(**SMALL).eval()(found.stacked())
    assert tokens.shape == (2, 2 * 2 * 4, 12)


def test_prompts_that_differ_in_number_are_encoded_one_by_one(tmp_path: Path) -> None:
    found = bank(tmp_path, "v0").retrieve(["red ball falls", "blue ball rolls"], 2)
    assert [len(each) for each in found.latents] == [1, 0]
    with pytest.raises(ValueError, match=r"prompts have \[1, 0\] videos, 3 missing; encode each prompt's latents"):
        found.stacked()
    nothing = bank(tmp_path / "none").retrieve(["red"], 2)
    assert nothing.latents[0].shape[0] == 0 and len(nothing.missing) == 2


def test_latents_come_from_a_function_too() -> None:
    def read(name: str) -> Tensor:
        if name == "v4":
            raise FileNotFoundError(name)
        return torch.zeros(3, 2, 2, 2)

    found = Bank(index=index(), read=read).retrieve(["blue ball ball"], 5)
    assert found.missing == ("v4",) and len(found.latents[0]) == 4


def test_an_encoder_of_transformers_gives_its_first_token() -> None:
    class Encoder(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids: Tensor) -> Any:
            return SimpleNamespace(last_hidden_state=input_ids[..., None].float())

    asked: dict[str, Any] = {}

    class Given(dict[str, Tensor]):
        def to(self, device: object) -> "Given":
            return self

    def tokenizer(captions: list[str], **options: Any) -> Given:
        asked.update(options)
        return Given(input_ids=torch.tensor([[len(caption) % 9, 1] for caption in captions]))

    found = cls_embedder(Encoder(), tokenizer)(["a", "bb"])
    assert torch.equal(found, torch.tensor([[1.0], [2.0]]))
    assert asked["max_length"] == 512 and asked["truncation"]


@pytest.mark.bad_input
def test_what_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="2 vectors and 1 names must be as many"):
        VideoIndex(np.eye(2), ["a"])
    with pytest.raises(ValueError, match="name 'a' comes twice"):
        VideoIndex(np.eye(2), ["a", "a"])
    with pytest.raises(ValueError, match="vector 1 is zero or not finite"):
        VideoIndex([[1.0, 0], [0, 0]], ["a", "b"])
    with pytest.raises(ValueError, match=r"vectors of shape \(2, 2, 2\) must be \(items, channels\); pool over words"):
        VideoIndex(np.ones((2, 2, 2)), ["a", "b"])
    with pytest.raises(ValueError, match="k=0 must be a whole number of at least 1"):
        index().search(["red"], 0)
    with pytest.raises(ValueError, match="must be a collection of names for each of 1 queries"):
        index().search(["red"], 1, exclude=["v0"])
    made = bank(tmp_path, "v0", "v1")
    bank(tmp_path, "v2", sides=(6, 9, 12))
    with pytest.raises(ValueError, match=r"different shapes: 'v0' \(3, 6, 9, 10\), 'v2' \(3, 6, 9, 12\); encode all"):
        made.retrieve(["red ball"], 2)
    save_file({"x": torch.zeros(1)}, tmp_path / "v3.safetensors")
    with pytest.raises(ValueError, match="v3.safetensors holds x and no 'latents'"):
        made.retrieve(["blue ball rolls"], 1)
    monkeypatch.setitem(sys.modules, "sklearn.neighbors", None)
    with pytest.raises(ImportError, match=r"install it by pip install 'saccade\[retrieval\]'"):
        index()
